"""A second interpreter of NIR graphs, and random graphs to try it and every backend on."""
