"""What is taken out of an executed notebook."""

import nbformat

from book.builder.scrub import scrub_outputs, scrub_text


def test_paths_go_and_their_lookalikes_stay():
    paths = [("/home/ann/book", "<book>"), ("/home/ann", "~")]
    scrubbed = scrub_text(
        "/home/ann/book/x.py '/home/ann' /home/anna/book <A at 0x7f3a2b> 0xff", paths
    )
    assert scrubbed == "<book>/x.py '~' /home/anna/book <A at 0x...> 0xff"


def test_streams_are_joined_and_overwritten_lines_dropped():
    new = nbformat.v4.new_output
    pieces = ["10%\r", "55%\r100%\n", "done\n"]
    outputs = [new("stream", name="stdout", text=text) for text in pieces]
    outputs.append(new("stream", name="stderr", text="other"))
    out, err = scrub_outputs(outputs, 1, [])
    assert (out.text, err.text) == ("100%\ndone\n", "other")
