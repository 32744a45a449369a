"""The command line. Commands are loaded when called, so that small ones start fast."""

from __future__ import annotations

import click

from pccodec import __version__
from pccodec.cli.console import configure_logging
from pccodec.cli.group import LazyCommand, LazyGroup

_COMMANDS = {
    "encode": LazyCommand("pccodec.cli.encode:encode_command", "Compress a point cloud."),
    "decode": LazyCommand("pccodec.cli.decode:decode_command", "Restore a cloud from a stream."),
    "truncate": LazyCommand("pccodec.cli.truncate:truncate_command", "Cut a stream to a size."),
    "info": LazyCommand("pccodec.cli.info:info_command", "Show what a stream holds, layer by layer."),
    "eval": LazyCommand("pccodec.cli.eval:eval_command", "Measure rate and distortion over many cuts."),
    "hash": LazyCommand("pccodec.cli.hash:hash_command", "Print the 64-bit hashes of clouds."),
    "index": LazyCommand("pccodec.cli.hash:index_command", "Index clouds for search."),
    "search": LazyCommand("pccodec.cli.hash:search_command", "Find the clouds most like one."),
    "train": LazyCommand("pccodec.cli.train:train_command", "Train a model."),
}

_EPILOG = """
\b
Exit codes:
  0  done
  1  unexpected error
  2  wrong usage
  3  a cloud cannot be used, or a file not be read or written (no such folder, disk full)
  4  not a stream, or its header is damaged, cut or from a newer format
  5  the stream is damaged (decode --strict)
  6  the model is missing or does not fit
  7  an optional package is missing
  8  a URL cannot be read: no answer, cut off, or a server that contradicts itself
  9  workers died over their work, or a scheduler cannot be reached
  130  interrupted (Ctrl-C); 129 and 143 by SIGHUP and SIGTERM
  141  nobody reads standard output any more
"""


@click.group(
    "pccodec",
    cls=LazyGroup,
    commands_by_name=_COMMANDS,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="pccodec")
@click.option("-v", "--verbose", count=True, help="Say more; twice: debug messages and tracebacks.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def main(verbose: int, quiet: bool) -> None:
    """Point-cloud compression: one file, every quality.

    A stream can be cut after any byte past its header and still decodes: coarser if little is left,
    lossless if all of it is there. "-" as a file stands for standard input or output. Data go to
    standard output, messages to standard error.
    """
    configure_logging(verbose, quiet)
