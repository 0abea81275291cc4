"""ONNX Runtime on the CPU: its kernels, how fused functions map to them, writing and running programs."""
