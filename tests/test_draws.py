"""What training asks of its films."""

import numpy as np
import pytest

from data_pipeline.world.language import content_words
from data_pipeline.world.scene import make_scene
from data_pipeline.world.vocabulary import HELD_OUT_COLORS
from train.configs import CONFIGS, Draw, NanoConfig, StreamStage
from train.features import Film
from train.model import new_model
from train.samples import draw_sample, film_builder

SECONDS = 40
RECIPES = [recipe for recipe in CONFIGS.values() if isinstance(recipe, NanoConfig)]
DRAWS = dict.fromkeys(draw for recipe in RECIPES for stage in recipe.streams for draw in stage.draws)


@pytest.mark.parametrize("draw", DRAWS, ids=range(len(DRAWS)))
def test_nothing_kept_for_tests_is_asked_for(draw: Draw):
    """A shape in a color that its kind never has is no good stranger: that it never comes would be learned."""
    _, tokenizer = new_model(1)
    builder = film_builder(tokenizer)
    scenes = [make_scene(seed, float(SECONDS), (1.5, 3.0), split="trained") for seed in range(20)]
    films = [Film(scene, (96, 64), np.zeros((SECONDS, 2, 24, 4), np.float16)) for scene in scenes]
    for i in range(120):
        for qa in draw_sample(films, StreamStage(1, 1, (12, 6), (draw,)), builder, (3, i)).questions:
            words = content_words(qa.question)
            assert not any({kind, color} <= words for kind, color in HELD_OUT_COLORS.items())
