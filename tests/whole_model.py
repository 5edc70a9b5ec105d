"""Loss and predictions from all parameters, tables included."""

from poyo_jax.model import apply as forward


def everything(path) -> bool:
    """All parameters of the backbone learn."""
    return True


def loss_sum(model, params, batch, seed, microbatch_windows, *, learns=everything):
    return forward.loss_sum(
        model,
        params["backbone"],
        vectors(params, batch),
        batch,
        seed,
        microbatch_windows,
        learns=learns,
    )


def predict(model, params, batch, microbatch_windows):
    return forward.predict(
        model, params["backbone"], vectors(params, batch), batch, microbatch_windows
    )


def vectors(params, batch):
    return {name: params[name][rows] for name, rows in forward.used_rows(batch).items()}
