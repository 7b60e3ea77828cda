"""Prompts as text files: the one source for training, for the logged model and for prediction."""

from dataclasses import dataclass
from string import Template

from finetune import PACKAGE, InputError

FOLDER = PACKAGE.parent / "prompts"


@dataclass(frozen=True)
class Prompt:
    """A prompt text with `$name` variables (string.Template: braces are plain text, as SQL and JSON need)."""

    text: str

    @classmethod
    def load(cls, name: str) -> "Prompt":
        """Read prompts/NAME.txt.

        Raises:
            InputError: when the file is missing or names no variable.
        """
        path = FOLDER / f"{name}.txt"
        if not path.is_file():
            raise InputError(f"there is no prompt file {path}.")
        prompt = cls(path.read_text(encoding="utf-8"))
        if not prompt.variables:
            raise InputError(f"the prompt {path} has no $variable; it needs one for each input column.")
        return prompt

    @property
    def variables(self) -> list[str]:
        """The names of the variables, in order of first appearance."""
        return list(dict.fromkeys(Template(self.text).get_identifiers()))

    def render(self, row: dict) -> str:
        """Return the prompt with its variables filled in from a row.

        Raises:
            InputError: naming every variable the row does not have.
        """
        return _substitute(self.text, row)

    @property
    def input_template(self) -> str:
        """The text from the first variable to the last: what a caller of the logged model sends."""
        return self._parts()[1]

    def model_input(self, row: dict) -> str:
        """Return the one string that the logged model takes for a row."""
        return _substitute(self.input_template, row)

    @property
    def mlflow_template(self) -> str:
        """The prompt as MLflow stores it: str.format text with exactly one `{prompt}`.

        `mlflow_template.format(prompt=model_input(row)) == render(row)` for every row.
        """
        before, _, after = self._parts()
        return _escape_braces(before) + "{prompt}" + _escape_braces(after)

    @property
    def registry_template(self) -> str:
        """The prompt as MLflow's prompt registry writes it: `{{name}}` for each variable."""
        return Template.pattern.sub(
            lambda found: f"{{{{{name}}}}}" if (name := found["named"] or found["braced"]) else "$", self.text
        )

    def _parts(self) -> tuple[str, str, str]:
        found = Template.pattern.finditer(self.text)
        spans = [match.span() for match in found if match["named"] or match["braced"]]
        start, end = spans[0][0], spans[-1][1]
        # string.Template writes a literal dollar sign as $$.
        return self.text[:start].replace("$$", "$"), self.text[start:end], self.text[end:].replace("$$", "$")


def _escape_braces(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _substitute(text: str, row: dict) -> str:
    missing = [name for name in Template(text).get_identifiers() if name not in row]
    if missing:
        raise InputError(f"the prompt needs {', '.join(sorted(set(missing)))}, given were {', '.join(row) or 'none'}.")
    return Template(text).substitute(row)
