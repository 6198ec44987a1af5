"""SimCLR v1 and v2 in TensorFlow, as a library: no TFX, no Beam, no cloud."""
