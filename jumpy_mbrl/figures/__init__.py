"""Pictures of results. All need matplotlib (the ``viz`` extra), imported only to draw."""
