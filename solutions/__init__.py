"""The source of every lab, solved; `python -m solutions.demo` runs them as one pipeline."""
