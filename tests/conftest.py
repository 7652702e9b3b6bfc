"""What every test runs under: shapes and types as the signatures state them, checked at every call."""

from jaxtyping import install_import_hook

# Before any of these is imported. Modules whose functions judge a user's arguments themselves are not among them: the
# check would come first. JAX's own check of ranks stays off, since a bias is added to a batch of rows.
install_import_hook(
    ["algorithms.rule", "algorithms.transport", "lab.examination", "lab.streams", "lab.training"], "beartype.beartype"
)
