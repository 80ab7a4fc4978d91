"""What answers a box or a click on an image: the outline of the object there."""
