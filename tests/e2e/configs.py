"""Labelling configs for projects of disc pictures."""

from __future__ import annotations

LABELS = '<Label value="tomato"/><Label value="plum"/>'


def config(*controls: str, image: str = "") -> str:
    """A labelling config with an image and the controls, each given as `Tag name attributes`, e.g. `BrushLabels b`."""
    tags = []
    for control in controls:
        tag, name, *attributes = control.split()
        tags.append(f'<{tag} name="{name}" toName="image" {" ".join(attributes)}>{LABELS}</{tag}>')
    return f'<View><Image name="image" value="$image" {image}/>{"".join(tags)}</View>'
