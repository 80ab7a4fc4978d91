"""The engine that comes with pip: torchvision's Mask R-CNN, and Detectron2's networks rebuilt in it."""
