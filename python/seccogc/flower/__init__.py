"""SecCoGC inside Flower: the server sees masked sums only, and decodes the exact weighted mean or nothing.

A strategy is wrapped, and every client gets a mod:

    # server_app.py
    strategy = SecCoGc(FedAvg(fraction_train=0.5), {"stragglers": 2})
    result = strategy.start(grid=grid, initial_arrays=arrays, num_rounds=50)

    # client_app.py
    app = ClientApp(mods=[seccogc_mod])

The training function stays as it is: it gets one `ArrayRecord` and answers with one of the same names and
shapes, and with one `MetricRecord` that holds the number of examples. The update is what changed, as 32-bit
floats; the new model has the types of the old one, but for whole numbers, whose mean is a float.

A round is three exchanges:

| exchange | to client k | from client k | what the server learns |
|---|---|---|---|
| train | model, configuration | a fresh public key, its number of examples, its metrics | the latter two |
| share | the roster | its masked update, sealed for each client that adds it up | sizes |
| sum | the sealed shares that came | a sum of masked updates | the sum over all, and no more |

The cohort is whoever has trained in time, so that who drops out before costs nothing. A client that is lost
between `train` and `share` makes the round an outage: the model stays as it is. Of those that are lost
afterwards, as many as `stragglers` do no harm, and their updates are in the mean.

Strategies that need the weighted mean only can be inside: FedAvg, FedAvgM, FedAdam, FedAdagrad, FedYogi,
FedProx and their like. Flower's privacy with clipping by clients goes around:
`DifferentialPrivacyClientSideFixedClipping(SecCoGc(FedAvg()), …)` with the mods
`[seccogc_mod, fixedclipping_mod]`.

What a node is told by the `--node-config` of its SuperNode:

| key | value |
|---|---|
| `seccogc-key` | its own Ed25519 key: a file of `ssh-keygen -t ed25519`, without a passphrase |
| `seccogc-roster` | a file with the public keys of all nodes, one a line, as in the `.pub` files |
| `seccogc-dir` | a folder in which the node notes what it has answered |
| `seccogc-least` | fewest clients of a round; 3 without it |
| `seccogc-key-std` | least σ of the keys, in the unit of an update; above 0 without it |

What is promised, against a server that follows the protocol, other clients and eavesdroppers: what
`seccogc audit` says of the scheme with `keys = "pairwise"`. What Flower cannot give:

- Nothing is promised against whoever submits the app, who writes what clients run. SuperNodes must review and
  pin it (`--trusted-entities`).
- The relay can replace public keys and read everything, unless nodes sign them: `seccogc-key` and
  `seccogc-roster`, which go together.
- Nodes that nobody knows can be the server's own: a roster says who there is.
- A node that crashed after an answer left may not know of it, and answers to two rosters would tell
  differences of masks: with `seccogc-dir` it answers nothing twice.
- Between the exchanges a node's update and secrets lie in its memory, where Flower keeps contexts.
- All messages go through the SuperLink: links between clients that avoid it do not exist here. So coding
  helps against losses after sharing, not against an uplink that never works; `seccogc join --listen` has such
  links.
"""

from seccogc.flower._mod import seccogc_mod
from seccogc.flower._strategy import SecCoGc

__all__ = ["SecCoGc", "seccogc_mod"]
