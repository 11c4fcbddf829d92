"""EMS-YOLO."""
