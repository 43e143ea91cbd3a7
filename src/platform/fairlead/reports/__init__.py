"""One report model, three renderers.

A stage builds a `model.Report` from its own facts; `html.render_html` makes one file that needs no network,
`terminal.render_terminal` prints it, `markdown.render_markdown` suits a model card or an artifact of a pipeline.
Nothing here computes a result: renderers only lay out the numbers they are given.
"""
