"""One run: the LightningModule that tasks share, trainer, callbacks, loggers, and its steps."""
