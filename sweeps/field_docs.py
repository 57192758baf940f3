"""What the fields of a dataclass mean, as the texts below them in its source say."""

import ast
import inspect
import textwrap
from itertools import pairwise


def field_docs(cls: type) -> dict[str, str]:
    """Collect the text that stands below each annotated field of a class and of its bases.

    Python drops these texts when it compiles, so they are read from the source; where there is none (a class typed
    into a console), nothing is found.
    """
    found = dict[str, str]()
    for base in reversed(cls.__mro__):
        for field, below in pairwise(_body(base)):
            text = _text(below)
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and text is not None:
                found[field.target.id] = inspect.cleandoc(text).replace("\n", " ")
    return found


def _body(cls: type) -> list[ast.stmt]:
    try:
        source = inspect.getsource(cls)
    except (OSError, TypeError):
        return []
    [definition] = ast.parse(textwrap.dedent(source)).body
    return definition.body if isinstance(definition, ast.ClassDef) else []


def _text(statement: ast.stmt) -> str | None:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None
