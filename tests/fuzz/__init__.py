"""Random graphs over the operators that passes touch, run through random pipelines against the oracle."""
