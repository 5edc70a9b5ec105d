"""Loss and predictions from all parameters, tables included."""

from poyo_jax.model import forward


def loss_sum(model, params, batch, seed, microbatch_windows, **options):
    return forward.loss_sum(
        model, params["backbone"], vectors(params, batch), batch, seed, microbatch_windows, **options
    )


def predict(model, params, batch, microbatch_windows):
    return forward.predict(model, params["backbone"], vectors(params, batch), batch, microbatch_windows)


def vectors(params, batch):
    return {name: params[name][rows] for name, rows in forward.used_rows(batch).items()}
