"""Let mypy see the methods of `image.diffuse`, which xarray adds at run time.

To be named in the settings of mypy: `plugins = ["diffusion_ops.mypy_plugin"]`. Without it the accessor has no type, as
any accessor of xarray's, and nothing that is called on it is checked.
"""

from __future__ import annotations

from collections.abc import Callable

from mypy.plugin import AttributeContext, Plugin
from mypy.types import Type

_ATTRIBUTE = "xarray.core.common.AttrAccessMixin.diffuse"
"""What mypy calls an attribute that DataArray and Dataset find by `__getattr__`."""


class AccessorPlugin(Plugin):
    """Give `image.diffuse` the type of the accessor of this image."""

    def get_attribute_hook(self, fullname: str) -> Callable[[AttributeContext], Type] | None:
        """Return the rule for the attribute `diffuse`."""
        return _accessor if fullname == _ATTRIBUTE else None


def _accessor(context: AttributeContext) -> Type:
    try:
        return context.api.named_generic_type("diffusion_ops.DiffuseAccessor", [context.type])
    except KeyError:
        # Nothing that is checked imports diffusion_ops.
        return context.default_attr_type


def plugin(version: str) -> type[Plugin]:
    """Return the plugin for any version of mypy."""
    return AccessorPlugin
