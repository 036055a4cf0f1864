use super::*;

/// Names and shapes.
type Layers = Vec<(String, Vec<usize>)>;

fn layers() -> Layers {
    let layer = |name: &str, shape: &[usize]| (name.to_owned(), shape.to_vec());
    vec![
        layer("hidden.0.weight", &[2, 3]),
        layer("hidden.0.bias", &[3]),
        layer("norm.gamma", &[2]),
        layer("norm.beta", &[2]),
        layer("conv.weight", &[1, 2, 1, 1]),
    ]
}

fn flat() -> Vec<f32> {
    (0..15u8).map(|x| f32::from(x) / 2.0).collect()
}

fn about() -> About {
    About {
        model: "mlp".into(),
        round: 7,
        data: "table".into(),
        shape: [1, 1, 2],
        classes: vec!["no".into(), "yes".into()],
        mean: vec![0.1, -3.0],
        std: vec![1.0, 1e-7],
        ..About::default()
    }
}

#[test]
fn tensors_have_the_names_and_the_layout_of_pytorch() {
    let dict = StateDict::of(Layout::Burn, &layers(), &flat());
    let names: Vec<&str> = dict.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["hidden.0.weight", "hidden.0.bias", "norm.weight", "norm.bias", "conv.weight"]);
    let weight = dict.get("hidden.0.weight").unwrap();
    assert_eq!((&weight.shape[..], &weight.values[..]), (&[3, 2][..], &[0.0, 1.5, 0.5, 2.0, 1.0, 2.5][..]));
    let conv = dict.get("conv.weight").unwrap();
    assert_eq!((&conv.shape[..], &conv.values[..]), (&[1, 2, 1, 1][..], &[6.5, 7.0][..]));
    assert_eq!(dict.flat(Layout::Burn, &layers()).unwrap(), flat());
}

#[test]
fn a_safetensors_file_is_read_back_and_says_what_it_is() {
    let dict = StateDict::of(Layout::Burn, &layers(), &flat()).about(about());
    let bytes = dict.to_safetensors().unwrap();
    assert_eq!(bytes, dict.to_safetensors().unwrap());
    let read = StateDict::from_safetensors(&bytes).unwrap();
    assert_eq!(read.about, Some(about()));
    assert_eq!(read.flat(Layout::Burn, &layers()).unwrap(), flat());
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    assert!(header.metadata().as_ref().unwrap()["seccogc"].starts_with("{\"model\":\"mlp\",\"round\":7,"));
    for cut in 0..bytes.len() {
        let problem = StateDict::from_safetensors(&bytes[..cut]).unwrap_err();
        assert!(problem.starts_with("not a safetensors file (") && problem.lines().count() == 1, "{problem}");
    }
}

#[test]
fn weights_of_another_model_are_refused_by_the_tensor() {
    let dict = StateDict::of(Layout::Burn, &layers(), &flat());
    let refusal = |change: &dyn Fn(&mut Layers)| {
        let mut other = layers();
        change(&mut other);
        dict.flat(Layout::Burn, &other).unwrap_err()
    };
    assert_eq!(
        refusal(&|other| other[0].1 = vec![2, 4]),
        "tensor `hidden.0.weight` is 3×2 where this model has 4×2"
    );
    assert_eq!(
        refusal(&|other| other[3].0 = "norm2.beta".into()),
        "no tensor `norm2.bias`, which is 2 in this model"
    );
    assert_eq!(refusal(&|other| drop(other.pop())), "tensor `conv.weight` has no place in this model");
    let mut broken = dict.clone();
    broken.tensors[1].values[2] = f32::NAN;
    assert_eq!(
        broken.flat(Layout::Burn, &layers()).unwrap_err(),
        "tensor `hidden.0.bias` holds numbers that are not finite"
    );
    let halves = [0u8; 4];
    let view = safetensors::tensor::TensorView::new(Dtype::F16, vec![2], &halves).unwrap();
    let bytes = safetensors::serialize([("a", view)], None).unwrap();
    assert_eq!(
        StateDict::from_safetensors(&bytes).unwrap_err(),
        "tensor `a` is F16; save it as 32-bit floats"
    );
}

/// A number of `size` bytes.
fn number(bytes: &[u8], at: usize, size: usize) -> usize {
    bytes[at..at + size].iter().rev().fold(0, |all, byte| 256 * all + usize::from(*byte))
}

#[test]
fn an_npz_file_holds_every_tensor_where_its_directory_says() {
    let dict = StateDict::of(Layout::Burn, &layers(), &flat());
    let bytes = dict.to_npz().unwrap();
    let end = bytes.len() - 22;
    assert_eq!((&bytes[end..end + 4], number(&bytes, end + 10, 2)), (&b"PK\x05\x06"[..], 5));
    let (size, mut at) = (number(&bytes, end + 12, 4), number(&bytes, end + 16, 4));
    assert_eq!(at + size, end);
    for tensor in &dict.tensors {
        assert_eq!(&bytes[at..at + 4], b"PK\x01\x02");
        let (length, place) = (number(&bytes, at + 28, 2), number(&bytes, at + 42, 4));
        let (crc, size) = (number(&bytes, at + 16, 4), number(&bytes, at + 24, 4));
        assert_eq!(bytes[at + 46..at + 46 + length], *format!("{}.npy", tensor.name).as_bytes());
        at += 46 + length;
        // Both headers agree, and so does the content.
        assert_eq!((&bytes[place..place + 4], number(&bytes, place + 14, 4)), (&b"PK\x03\x04"[..], crc));
        let start = place + 30 + number(&bytes, place + 26, 2);
        let content = &bytes[start..start + size];
        let mut sum = flate2::Crc::new();
        sum.update(content);
        assert_eq!(sum.sum() as usize, crc);
        assert_eq!(&content[..8], b"\x93NUMPY\x01\x00");
        let header = 10 + number(content, 8, 2);
        assert_eq!((header % 64, content[header - 1]), (0, b'\n'));
        let text = std::str::from_utf8(&content[10..header]).unwrap().trim_end();
        let shape: String = tensor.shape.iter().map(|side| format!("{side}, ")).collect();
        let shape = shape.trim_end();
        assert_eq!(text, format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}"));
        let values = content[header..].chunks_exact(4).map(|x| f32::from_le_bytes(x.try_into().unwrap()));
        assert_eq!(values.collect::<Vec<_>>(), tensor.values);
    }
    assert_eq!(at, end);
}

#[test]
fn a_csv_file_names_every_number_by_its_place() {
    let dict = StateDict::of(Layout::Burn, &layers()[..2], &flat()[..9]);
    let text = String::from_utf8(dict.to_csv()).unwrap();
    assert_eq!(
        text,
        "tensor,index,value\nhidden.0.weight,0 0,0\nhidden.0.weight,0 1,1.5\nhidden.0.weight,1 0,0.5\n\
         hidden.0.weight,1 1,2\nhidden.0.weight,2 0,1\nhidden.0.weight,2 1,2.5\nhidden.0.bias,0,3\n\
         hidden.0.bias,1,3.5\nhidden.0.bias,2,4\n"
    );
}
