"""The room of the generated protocol: `holon.rxon.v1` comes from `proto/` by `scripts/gen_proto`."""
