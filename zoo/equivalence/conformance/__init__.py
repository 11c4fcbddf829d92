"""One suite for everybody who runs NIR: every node type and parameter corner, on every adapter and every stock importer.

After the ONNX backend tests: a case is a graph, an input and what the discrete-time contract makes of it. ``zoo conformance``
runs all cases on the zoo's adapters and on the importers that the frameworks ship themselves, each in a process of its own that
is killed when it hangs, and writes ``results/conformance.csv`` and ``docs/conformance.md``.
"""
