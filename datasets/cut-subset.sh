#!/bin/sh
# Cuts the embedded subset from the four raw canonical MNIST files: the first 10,000 training and the
# first 2,000 test examples. Usage: sh cut-subset.sh FOLDER-WITH-RAW-MNIST OUTPUT-FOLDER
set -eu
from=$1
to=$2
mkdir -p "$to"

# cut HEADER COUNT-BYTES HEADER-BYTES NAME: a new IDX header, then the first bytes of the old body.
cut() {
    { printf "$1"; tail -c +$(($3 + 1)) "$from/$4" | head -c "$2"; } | gzip -9 -n > "$to/$4.gz"
}
cut '\000\000\010\003\000\000\047\020\000\000\000\034\000\000\000\034' 7840000 16 train-images-idx3-ubyte
cut '\000\000\010\001\000\000\047\020' 10000 8 train-labels-idx1-ubyte
cut '\000\000\010\003\000\000\007\320\000\000\000\034\000\000\000\034' 1568000 16 t10k-images-idx3-ubyte
cut '\000\000\010\001\000\000\007\320' 2000 8 t10k-labels-idx1-ubyte
