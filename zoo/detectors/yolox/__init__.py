"""The parts of YOLOX that EAS-SNN and SpikingYOLOX are made of."""
