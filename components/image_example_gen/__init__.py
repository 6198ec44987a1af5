"""ImageExampleGen: folders, archives and TFRecords of images into checked, deduplicated raw Examples.

Nothing is imported here: a Beam worker that decodes images must not pay for TFX or TensorFlow. The component
is `components.image_example_gen.component.ImageExampleGen`.
"""
