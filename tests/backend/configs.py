"""Labelling configs that several tests use."""

POLYGONS = """<View><Image name="image" value="$photo"/>
<PolygonLabels name="shape" toName="image"><Label value="leaf"/><Label value="spot" predicted_values="lesion, blot"/>
</PolygonLabels></View>"""

ALL_SHAPES = """<View><Image name="image" value="$photo"/>
<RectangleLabels name="box" toName="image"><Label value="leaf"/><Label value="pot"/></RectangleLabels>
<BrushLabels name="brush" toName="image"><Label value="soil"/></BrushLabels>
<PolygonLabels name="shape" toName="image"><Label value="leaf"/></PolygonLabels>
<Choices name="quality" toName="image"><Choice value="good"/></Choices></View>"""
