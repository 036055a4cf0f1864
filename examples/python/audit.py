"""What everybody can learn about an update, and how strong keys must be."""

import seccogc

config = seccogc.Config(seccogc.configs / "mnist.toml", solver={"clip_norm": 1.0})
audit = seccogc.audit(config, coalition="server+2")
print(audit)

# The worst client against every adversary, from the table behind it.
entries = audit.entries
for layer in dict.fromkeys(entries["layer"]):
    of_layer = entries["layer"] == layer
    print(f"{layer}: at most {entries['lmip_bits'][of_layer].max():.3e} bits per coordinate")

# The weakest keys with which nobody learns more than a fifth of a bit; the sum alone tells a ninth.
print(seccogc.calibrate(config.replace(privacy={"max_lmip_bits": 0.2})))
