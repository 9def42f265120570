"""The variants that ship with a commit of copycost, for `copycost gate` to measure: .ci/measure puts this beside them.

The commit's package lies beside this file under another name, `shipped`: one copycost measures both commits, and two
packages of one name cannot be imported into one process. Its recipes are called `shipped-tf` and so on, since the
copycost that measures has a `tf` of its own. The adapters of the runtimes are those of the copycost that measures.
"""

import sys
from dataclasses import fields
from pathlib import Path

from suite import registry, runtime

sys.path.insert(0, str(Path(__file__).parent))  # before what is installed

import shipped.runtime

# What a variant raises where it does not apply is told from a failure by its class.
shipped.runtime.Unavailable, shipped.runtime.Gone = runtime.Unavailable, runtime.Gone

import shipped.registry  # noqa: E402

shipped.registry.load_shipped()


def _as(kind, entry, **changed):
    """The commit's entry as one of the copycost that measures: the fields that both have."""
    known = {field.name: getattr(entry, field.name) for field in fields(kind) if hasattr(entry, field.name)}
    return kind(**known | changed | {"source": registry._source[-1]})


for name, recipe in shipped.registry.recipes.items():
    registry.recipes[f"shipped-{name}"] = _as(registry.Recipe, recipe, name=f"shipped-{name}")
for (recipe, name), variant in shipped.registry.variants.items():
    if variant.runtime in registry.runtimes():
        key = (f"shipped-{recipe}", name)
        registry.variants[key] = _as(registry.Variant, variant, recipe=key[0])
