"""Commands for a network that is trained: its embeddings, its weights in plain files, and published ones."""

from pathlib import Path

import click

from trainer.cli_command import command, images_option, model_option, output_option
from trainer.config import MethodConfig


@command
@model_option
@images_option
@click.option("--output", required=True, metavar="FILE", help="The Parquet file.")
def embed(config: MethodConfig, model: str, images: str, output: str) -> None:
    """Write h of every image to a Parquet file: key, label_index, embedding."""
    from trainer import embeddings, export, opening

    encoder, _ = export.load_encoder(model)
    size_px = encoder.input_shape[1]
    n_rows = embeddings.write_parquet(encoder, opening.images(images, size_px), output, size_px=size_px)
    click.echo(f"{n_rows} embeddings: {output}")


@command
@click.option("--weights", required=True, metavar="PATH", help="A SavedModel, or the prefix of a checkpoint.")
@click.option("--size", "size_px", default=224, show_default=True, help="Side of the network's images, in pixels.")
@click.option("--without-head", is_flag=True, help="The weights are of an encoder alone, as those of v1 are.")
@output_option
def published(config: MethodConfig, weights: str, size_px: int, without_head: bool, output: str) -> None:
    """Take over weights that SimCLR's authors published, as if `pretrain` had made them.

    The network is the configured one: those of the presets imagenet_r50_v1, imagenet_r50_v2 and
    imagenet_r152_3x_sk_v2 are theirs.
    """
    from trainer import export, heads, published, resnet

    settings = config.pretrain
    encoder = resnet.build_encoder(settings.encoder, size_px=size_px, seed=config.seed)
    head = None
    if not without_head:
        head = heads.projection_head(settings.head, input_dim=encoder.output_shape[-1], seed=config.seed)
    published.load(weights, encoder, config=settings.encoder, head=head)
    export.save_encoder(encoder, settings.encoder, output)
    if head is not None:
        export.save_head(head, settings.head, output)
    click.echo(f"encoder: {output}")


@command
@click.option("--model", required=True, metavar="DIR", help="What `pretrain`, `finetune` or `distill` wrote.")
@click.option(
    "--output",
    required=True,
    metavar="PATH",
    help="A file that ends in .safetensors or .npz for the weights alone, or the folder of a SavedModel.",
)
def export(config: MethodConfig, model: str, output: str) -> None:
    """Write an encoder or a classifier as a SavedModel that takes encoded images, or its weights as plain arrays.

    The arrays of a pretraining are its encoder's and its head's, those of a classifier the whole network's.
    """
    from trainer import export, weights

    if Path(output).suffix in weights.SUFFIXES:
        weights.save(export.load_networks(model), output)
    else:
        export.save_for_serving(model, output)
    click.echo(f"exported: {output}")
