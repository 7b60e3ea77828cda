"""The progress line of a training: steps, loss, the held-out rows' loss, and about how long is left."""

from finetune.progress_line import Progress

from transformers import TrainerCallback


class LineCallback(TrainerCallback):
    """Shows one line in place of the Trainer's bars and its printed dictionaries, which MLflow has as metrics."""

    line = Progress("training", None, "steps", quiet=True)

    def __init__(self):
        self.loss = self.held_out = self.evaluated = ""

    def on_train_begin(self, args, state, control, **kwargs):
        """Begin where the training stands."""
        self.line = Progress("training", state.max_steps, "steps", state.global_step)

    def on_step_end(self, args, state, control, **kwargs):
        """Count the step."""
        self.evaluated = ""
        self.line.update(state.global_step, self._note())

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Take up the losses."""
        logs = logs or {}
        if "loss" in logs:
            self.loss = f", loss {logs['loss']:.3g}"
        if "eval_loss" in logs:
            self.held_out = f", held-out loss {logs['eval_loss']:.3g}"
            self.evaluated = ""
            self.line.update(state.global_step, self._note())

    def on_prediction_step(self, args, state, control, eval_dataloader=None, **kwargs):
        """Count the batches of an evaluation."""
        batches = int(self.evaluated.rpartition(" ")[2] or 0) + 1
        self.evaluated = f", evaluating: batch {batches}"
        self.line.update(state.global_step, self._note())

    def on_train_end(self, args, state, control, **kwargs):
        """Leave the line as the result."""
        self.line.update(state.global_step, self._note())
        self.line.close()
        self.line = LineCallback.line

    def _note(self) -> str:
        return f"{self.loss}{self.held_out}{self.evaluated}"
