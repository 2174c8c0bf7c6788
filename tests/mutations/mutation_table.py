"""Mistakes that code under a privacy guarantee is prone to, and the tests that each must fail.

A new line: the mistake in a few words, the file, a short text that stands there exactly once, what a careless hand
would write in its place, and the fastest tests that fail for it. A mistake that no test notices wants a test first.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """One mistake.

    name: the mistake in a few words.
    file: where, from the project's root.
    old: text that stands there exactly once.
    new: what it becomes.
    caught_by: tests, each of which must fail; of one with cases, some case.
    """

    name: str
    file: str
    old: str
    new: str
    caught_by: tuple[str, ...]


def _tests(path: str, *names: str) -> tuple[str, ...]:
    return tuple(f"tests/{path}.py::{name}" for name in names)


def _shared(method: str) -> tuple[str, ...]:
    """The test that what a method shares is a function of its releases alone."""
    test = "test_with_the_same_releases_other_records_change_nothing_that_is_shared"
    return _tests("unit/api/test_post_processing", f"{test}[{method}]")


SANITIZER, CLIPPING = "dpsad/privacy/sanitizer.py", "dpsad/privacy/clipping.py"
PLAN, LEDGER, STATEMENT = "dpsad/privacy/plan.py", "dpsad/privacy/ledger.py", "dpsad/privacy/statement.py"
ACCOUNTING, RANDOMNESS = "dpsad/privacy/accounting.py", "dpsad/privacy/randomness.py"
GAUSSIAN, PROVENANCE = "dpsad/privacy/gaussian.py", "dpsad/privacy/provenance.py"
DP_SGD, GS_WGAN = "dpsad/training/dp_sgd.py", "dpsad/methods/gs_wgan.py"
DENOISER, DENOISER_FILES = "dpsad/training/denoiser.py", "dpsad/training/denoiser_files.py"
PROTOTYPE_RELEASE = "dpsad/methods/dp_sad/prototype_release.py"
PROTOTYPE_ROWS, METHOD = "dpsad/methods/dp_sad/prototype_rows.py", "dpsad/methods/method.py"
PUBLIC_IMAGES, SOURCES = "dpsad/data/public_images.py", "dpsad/data/sources.py"
CONTEXT, CHECKPOINT = "dpsad/runtime/context.py", "dpsad/runtime/checkpoint.py"
STUDENT = "dpsad/methods/dp_sad/student.py"
JOINS = "poisson_sample(len(records), sanitizer.plan.sampling_prob, randomness)"
NORMAL = "self.randomness.rounded_normal(shape, self.plan.noise_multiplier * steps)"
CLIPPED = "sum_clipped(rows, self.plan.clip_norm, total, steps)"
RELEASED_NORM = "released_norm = released.norm().item() / expected_batch_size"

NOISE = [
    Mutation(
        "noise of two thirds of the planned scale", SANITIZER,
        "self.plan.noise_multiplier * steps", "2 / 3 * self.plan.noise_multiplier * steps",
        _tests("statistical/test_sanitizer", "test_noise_has_the_planned_scale"),
    ),
    Mutation(
        "the variance of the noise for its standard deviation", SANITIZER,
        "self.plan.noise_multiplier * steps", "self.plan.noise_multiplier**2 * steps",
        _tests("statistical/test_sanitizer", "test_noise_has_the_planned_scale"),
    ),
    Mutation(
        "noise in units of the data and not of the bound", SANITIZER,
        "self.plan.noise_multiplier * steps", "self.plan.noise_multiplier * steps / self.plan.clip_norm",
        _tests("statistical/test_sanitizer", "test_noise_has_the_planned_scale"),
    ),
    Mutation(
        "noise drawn once for several releases", SANITIZER,
        NORMAL, f'self.__dict__.setdefault("noise", {NORMAL})',
        _tests("statistical/test_sanitizer", "test_noise_of_releases_and_coordinates_is_independent"),
    ),
    Mutation(
        "noise from torch's global generator", SANITIZER,
        NORMAL, "(torch.randn(shape, dtype=torch.float64) * self.plan.noise_multiplier * steps).round()",
        _tests("statistical/test_sanitizer", "test_an_empty_batch_is_pure_noise"),
    ),
    Mutation(
        "noise drawn and added in float32", SANITIZER,
        f"            total += {NORMAL}\n        self.together.add_up(total)\n"
        "        return total.mul_(self.plan.clip_norm / steps).float()",
        "            noise = self.randomness.normal(shape) * self.plan.noise_scale\n"
        "        return total.mul_(self.plan.clip_norm / steps).float() + noise",
        _tests("statistical/test_floating_point", "test_which_numbers_can_be_reached_tells_nothing_of_a_record"),
    ),
    Mutation(
        "noise rounded to a coarser grid than the sum", SANITIZER,
        NORMAL, "16 * self.randomness.rounded_normal(shape, self.plan.noise_multiplier * steps / 16)",
        _tests("statistical/test_floating_point", "test_releases_are_on_the_grid_in_either_world"),
    ),
    Mutation(
        "noise that is rounded twice, to a coarser grid at last", RANDOMNESS,
        "part.copy_(rounded[: len(part)])", "part.copy_((rounded[: len(part)] / 16).round() * 16)",
        _tests("unit/privacy/test_randomness", "test_rounded_noise_has_its_distribution[cpu-0]"),
    ),
    Mutation(
        "noise that float64 leaves open rounded as it falls", RANDOMNESS,
        "(steep | near[:half] | near[half:]).nonzero()", "(steep & ~steep).nonzero()",
        _tests("unit/privacy/test_randomness", "test_numbers_that_float64_leaves_open_are_worked_out_with_more_bits"),
    ),
    Mutation(
        "secret numbers that begin anew whenever a run goes on", RANDOMNESS,
        "self._key = os.urandom(KEY_BYTES)", "self._key = bytes(KEY_BYTES)",
        _tests("unit/privacy/test_randomness", "test_secret_numbers_differ_and_fixed_ones_repeat"),
    ),
    Mutation(
        "secret numbers from a generator with few bits of seed", RANDOMNESS,
        "self._key = os.urandom(KEY_BYTES)", "self._key = bytes(torch.randint(256, (KEY_BYTES,)).tolist())",
        _tests("unit/privacy/test_randomness", "test_a_key_of_256_bits_comes_from_the_operating_system"),
    ),
    Mutation(
        "a key that tells what was drawn before it was saved", RANDOMNESS,
        "self._key = drawn[:KEY_BYTES]", "self._key = self._key",
        _tests("unit/privacy/test_randomness", "test_a_saved_key_draws_the_same_again_and_nothing_of_before"),
    ),
    Mutation(
        "a copy of a run that goes on with the noise of the first", RANDOMNESS,
        'salt = b"" if self.repeatable else self.place.encode()', 'salt = b""',
        _tests("unit/privacy/test_randomness", "test_a_secret_key_is_good_for_its_place_alone_and_a_fixed_one_"
               "anywhere"),
    ),
    Mutation(
        "a counter that forgets its upper half", "dpsad/privacy/chacha.py",
        "rest[:2] = counter.view(torch.int32).view(num, 2).T",
        "rest[:1] = counter.view(torch.int32).view(num, 2).T[:1]",
        _tests("unit/privacy/test_chacha", "test_the_counter_goes_on_beyond_32_bits"),
    ),
    Mutation(
        "rotations that drag the sign along", "dpsad/privacy/chacha.py",
        ".bitwise_and_(2**by - 1)", "",
        _tests("unit/privacy/test_chacha", "test_blocks_are_those_of_the_standard"),
    ),
    Mutation(
        "privacy noise from the run's public seed", "dpsad/api/launch.py",
        "seed=config.privacy.noise_seed", "seed=config.seed",
        _tests("unit/api/test_training", "test_the_seed_does_not_decide_the_noise"),
    ),
    Mutation(
        "draws inside rows from torch's global generator", DP_SGD,
        "noise = randomness.normal(tuple(images.shape))", "noise = torch.randn(images.shape)",
        _tests("unit/training/test_dp_sgd", "test_a_row_is_the_gradient_of_the_mean_loss_over_its_draws"),
    ),
]  # fmt: skip

CLIPS = [
    Mutation(
        "rows clipped to twice the bound", SANITIZER,
        CLIPPED, "sum_clipped(rows, 2 * self.plan.clip_norm, total, 2 * steps)",
        _tests(
            "statistical/test_sanitizer", "test_one_record_moves_the_release_by_its_clipped_norm_and_no_further"
        ),
    ),
    Mutation(
        "the sum clipped, not the rows", CLIPPING,
        "_steps_of(row_norms(some), clip_norm, steps)",
        "_steps_of(row_norms([part.sum(0, keepdim=True) for part in some]), clip_norm, steps)",
        _tests("unit/privacy/test_clipping", "test_sum_agrees_with_a_loop_over_numbers"),
    ),
    Mutation(
        "each layer's part of a row clipped by itself", CLIPPING,
        "(piece.float() * factor).int()", "(piece.float() * _steps_of(row_norms([part]), clip_norm, steps)).int()",
        _tests("unit/privacy/test_clipping", "test_sum_agrees_with_a_loop_over_numbers"),
    ),
    Mutation(
        "each image of a shard's row clipped by itself", CLIPPING,
        "entries = rows if rows.unit is None else", "entries = BlockRows(rows.values, rows.block) if True else",
        _tests("unit/methods/dp_sad/test_prototype_rows", "test_block_rows_of_one_unit_are_clipped_together"),
    ),
    Mutation(
        "each noise draw of a record clipped by itself", DP_SGD,
        "per_example_gradients(denoiser, losses, num)",
        "per_example_gradients(denoiser, losses, num * noise_multiplicity)",
        _tests("unit/training/test_dp_sgd", "test_a_row_is_the_gradient_of_the_mean_loss_over_its_draws"),
    ),
    Mutation(
        "rows that are not finite let through", CLIPPING,
        "torch.where(norm.isfinite(), (clip_norm / norm).clamp(max=1), 0)", "(clip_norm / norm).clamp(max=1)",
        _tests("unit/privacy/test_clipping", "test_scale_of_known_norms"),
    ),
    Mutation(
        "no margin for the rounding of norms", CLIPPING,
        "MARGIN = 2.0**-18", "MARGIN = 0.0",
        _tests("unit/privacy/test_clipping", "test_a_clipped_row_is_within_the_bound_exactly"),
    ),
    Mutation(
        "a bound that may be infinite", PLAN,
        'Range("[1e-9, 1e9]")', 'Range("[1e-9, inf]")',
        _tests("unit/privacy/test_ranges", "test_a_plan_bounds_rows_by_a_finite_number"),
    ),
    Mutation(
        "a sum in float32, whose last bits know the order", SANITIZER,
        "torch.zeros(shape, dtype=torch.float64, device=device)", "torch.zeros(shape, device=device)",
        _tests("statistical/test_sanitizer", "test_chunks_are_summed_one_at_a_time_and_their_size_does_not_matter"),
    ),
]  # fmt: skip

MIXING = [
    Mutation(
        "batch normalisation let into DP-SGD", DP_SGD,
        "    require_no_mixing(model)", "    pass",
        _tests("unit/training/test_dp_sgd", "test_a_model_that_mixes_records_is_refused_before_anything_else"),
    ),
    Mutation(
        "rows of a model that mixes examples", "dpsad/privacy/rows_of_any_model.py",
        "    require_no_mixing(model)", "    pass",
        _tests("unit/privacy/test_rows_of_any_model", "test_a_model_that_mixes_examples_is_refused"),
    ),
    Mutation(
        "batch normalisation without weights taken for harmless", "dpsad/privacy/no_mixing.py",
        "isinstance(layer, _NormBase) and (", "isinstance(layer, _NormBase) and layer.affine and (",
        _tests("unit/privacy/test_no_mixing", "test_a_layer_that_mixes_examples_is_refused_by_name"),
    ),
    Mutation(
        "records centred on the mean of all", PROTOTYPE_ROWS,
        "_differences_from_nearest(images[index], own[label]",
        "_differences_from_nearest(images[index] - images[index].mean(0), own[label]",
        _tests("statistical/test_sanitizer", "test_a_sketch_row_is_a_function_of_its_record_alone"),
    ),
    Mutation(
        "latents scaled by those of all records", "dpsad/methods/public_autoencoder.py",
        "images=torch.cat(latents)", "images=torch.cat(latents) / torch.cat(latents).std()",
        _tests("unit/methods/test_public_autoencoder", "test_a_record_s_latents_do_not_depend_on_the_other_records"),
    ),
    Mutation(
        "a shard that answers by another's teacher", PROTOTYPE_ROWS,
        "proposal.labels, part)\n        rows", "proposal.labels)[: len(part)]\n        rows",
        _tests("unit/methods/dp_sad/test_prototype_rows", "test_teachers_pull_towards_their_answers_and_say_whether_"
               "they_have_any"),
    ),
    Mutation(
        "a critic that meets another shard's records", GS_WGAN,
        "index = shards.members[part].expand(", "index = shards.members[part.roll(1)].expand(",
        _tests("unit/methods/test_gs_wgan", "test_each_critic_meets_its_own_records_beside_images_of_their_class"),
    ),
    Mutation(
        "clusters of all records taken for labels", DP_SGD,
        "    require_own_labels(records)", "    pass",
        _tests("unit/training/test_provenance_is_carried", "test_clusters_of_all_records_are_no_labels_of_their_own"),
    ),
    Mutation(
        "random features by products that float32 rounds", "dpsad/networks/random_features.py",
        "_waves(exact_products(x.flatten(1), frequencies, bound, float(frequencies.abs().max())).float())",
        "_waves(x.flatten(1) @ frequencies.T)",
        _tests("unit/methods/test_rows_stand_alone", "test_random_features_are_worked_out_without_rounding"),
    ),
    Mutation(
        "records' random features as if they were a generator's", "dpsad/methods/dp_merf.py",
        "features.of_each(images.to(device), bound=1.0)", "features(images.to(device))",
        _tests("unit/methods/test_rows_stand_alone", "test_random_features_are_worked_out_without_rounding"),
    ),
    Mutation(
        "the nearest prototype by distances that float32 rounds", PROTOTYPE_ROWS,
        "return (outputs.double().square().sum(1) - 2 * exact_products(records, outputs, RANGE, RANGE)).argmin(1)",
        "return torch.cdist(records, outputs).argmin(1)",
        _tests("unit/methods/test_rows_stand_alone", "test_a_record_halfway_between_prototypes_does_not_change_sides"),
    ),
    # processors differ in how float32 rounds, so not here: norms of rows that lie crosswise
    Mutation(
        "networks that see records in batches of as many as are left", "dpsad/training/batches.py",
        "part.new_zeros(size - num, *part.shape[1:])", "part.new_zeros(0, *part.shape[1:])",
        _tests("unit/methods/test_rows_stand_alone", "test_networks_see_records_in_batches_of_one_size"),
    ),
]  # fmt: skip

SAMPLING = [
    Mutation(
        "batches of a fixed size accounted as Poisson samples", RANDOMNESS,
        "return randomness.happens(num_records, sampling_prob).nonzero().flatten()",
        "return randomness.uniform(num_records).argsort()[: round(num_records * sampling_prob)].sort().values",
        _tests("unit/privacy/test_randomness", "test_records_join_independently"),
    ),
    Mutation(
        "shuffled batches of a fixed size in DP-SGD", DP_SGD,
        JOINS, "torch.randperm(len(records))[: round(expected_batch_size)].sort().values",
        _tests("unit/training/test_dp_sgd", "test_every_record_joins_a_step_by_a_secret_draw_of_its_own_with_the_"
               "planned_probability"),
    ),
    Mutation(
        "records that join more often than is accounted", DP_SGD,
        JOINS, JOINS.replace("sanitizer.plan.sampling_prob", "min(1.0, 1.2 * sanitizer.plan.sampling_prob)"),
        _tests("unit/training/test_dp_sgd", "test_every_record_joins_a_step_by_a_secret_draw_of_its_own_with_the_"
               "planned_probability"),
    ),
    Mutation(
        "all shards asked where a sample of them is accounted", PROTOTYPE_RELEASE,
        "poisson_sample(len(own), settings.shards.sampling_prob, draws)", "torch.arange(len(own))",
        _tests("unit/methods/dp_sad/test_prototype_release", "test_shards_answer_a_question_by_secret_draws_with_the_"
               "planned_probability"),
    ),
    Mutation(
        "critics of a fixed number of shards in each step", GS_WGAN,
        "joined = poisson_sample(shards.num_shards, sanitizer.plan.sampling_prob, randomness)",
        "joined = torch.randperm(shards.num_shards)[: config.shards_per_step]",
        _tests("unit/methods/test_gs_wgan", "test_every_shard_joins_a_step_by_a_secret_draw_of_its_own_with_the_"
               "planned_probability"),
    ),
    Mutation(
        "a probability that is rounded up", RANDOMNESS,
        "int(prob * 2**53)", "math.ceil(prob * 2**53) + 1",
        _tests("unit/privacy/test_randomness", "test_no_record_joins_more_often_than_was_accounted"),
    ),
    Mutation(
        "an empty batch skipped", DP_SGD,
        JOINS, f"{JOINS}\n        if not len(joined):\n            continue",
        _tests("unit/training/test_dp_sgd", "test_a_step_that_nobody_joins_is_released_as_noise"),
    ),
    Mutation(
        "public numbers drawn only when a shard takes part", GS_WGAN,
        "teach_critics(joined, config.critic_steps)", "len(joined) and teach_critics(joined, config.critic_steps)",
        _tests("unit/methods/test_gs_wgan", "test_the_public_stream_does_not_know_who_took_part"),
    ),
]  # fmt: skip

ACCOUNTS = [
    Mutation(
        "a smaller sampling probability accounted than used", PLAN,
        "self.sampling_prob, dp_accounting", "self.sampling_prob / 2, dp_accounting",
        _tests("golden/test_accounting", "test_a_plan_accounts_what_it_says"),
    ),
    Mutation(
        "one of several releases accounted", PLAN,
        "return event if self.num_releases == 1 else", "return event if True else",
        _tests("golden/test_accounting", "test_a_plan_accounts_what_it_says"),
    ),
    Mutation(
        "a shard's row that reaches once the bound", PLAN,
        "return 2 if self is Unit.SHARD else 1", "return 1",
        _tests("golden/test_accounting", "test_a_plan_accounts_what_it_says"),
    ),
    Mutation(
        "sampled shards accounted as if a shard were added", PLAN,
        "event = ReplacedRowEvent(event)", "pass",
        _tests("golden/test_accounting", "test_one_sampled_shard_event_is_the_integral_of_its_densities"),
    ),
    Mutation(
        "replaced rows composed under add-or-remove", ACCOUNTING,
        "relation = _REPLACED if isinstance(single, ReplacedRowEvent) else _RELATION", "relation = _RELATION",
        _tests("golden/test_accounting", "test_one_sampled_shard_event_is_the_integral_of_its_densities"),
    ),
    Mutation(
        "repeated Gaussian releases merged as one", ACCOUNTING,
        "precision += count / ", "precision += 1 / ",
        _tests("golden/test_accounting", "test_merged_gaussians_cost_what_the_unmerged_do"),
    ),
    Mutation(
        "epsilon at another delta than is stated", LEDGER,
        "and events else events, self.delta)", "and events else events, 10 * self.delta)",
        _tests("unit/privacy/test_ledger", "test_charges_add_up_as_one_mechanism_and_not_epsilon_by_epsilon"),
    ),
    Mutation(
        "the last charge alone accounted", LEDGER,
        "entries=[*self.entries, *plans]", "entries=[*plans]",
        _tests("unit/privacy/test_ledger", "test_charges_add_up_as_one_mechanism_and_not_epsilon_by_epsilon"),
    ),
    Mutation(
        "a budget that may be overspent by a percent", LEDGER,
        "if total > self.epsilon:", "if total > 1.01 * self.epsilon:",
        _tests("unit/privacy/test_ledger", "test_a_charge_just_over_the_budget_is_refused_and_leaves_the_ledger_as_it_"
               "was"),
    ),
    Mutation(
        "one record accounted where a person has several", PLAN,
        "reach = records_per_person * self.sensitivity()", "reach = self.sensitivity()",
        _tests("golden/test_records_of_one_person", "test_records_that_all_take_part_move_a_sum_so_many_times_as_far"),
    ),
    Mutation(
        "one record accounted where several of a person are sampled", PLAN,
        "elif records_per_person > 1:", "elif False:",
        _tests("golden/test_records_of_one_person", "test_one_sampled_release_is_the_integral_of_its_densities"),
    ),
    Mutation(
        "a ledger that forgets how many records a person has", LEDGER,
        "[plan.event(self.records_per_person) for plan", "[plan.event(1) for plan",
        _tests("unit/methods/test_records_of_one_person", "test_a_ledger_accounts_for_all_records_whoever_planned_the_"
               "release"),
    ),
    Mutation(
        "delta of Gaussians as a plain difference, whose digits cancel", GAUSSIAN,
        "    density = math.exp(-near * near / 2)",
        "    return float(ndtr(-near) - math.exp(epsilon) * ndtr(-far))\n    density = math.exp(-near * near / 2)",
        _tests("unit/privacy/test_gaussian", "test_delta_is_exact_to_rounding_and_never_below"),
    ),
    Mutation(
        "epsilon of Gaussians rounded down", GAUSSIAN,
        "    return high\n", "    return low\n",
        _tests("unit/privacy/test_gaussian", "test_epsilon_is_the_least_upper_bound"),
    ),
]  # fmt: skip

CHARGES = [
    Mutation(
        "a spread that takes its share of the signal in place of the budget", "dpsad/methods/dp_sad/release_plans.py",
        "prototypes_mu(settings, budget) * share**0.5", "prototypes_mu(settings, budget) * share**0.25",
        _tests("unit/methods/dp_sad/test_spread", "test_a_run_with_a_spread_costs_what_it_would_without"),
    ),
    Mutation(
        "prototypes that keep the budget of their spread", "dpsad/methods/dp_sad/release_plans.py",
        "mu * (1 - settings.spread.share) ** 0.5", "mu",
        _tests("unit/methods/dp_sad/test_spread", "test_a_run_with_a_spread_costs_what_it_would_without"),
    ),
    Mutation(
        "groups of prototypes whose spread is not charged", "dpsad/methods/dp_sad/spread.py",
        "Sanitizer(grouped_plan, ledger,", "Sanitizer(grouped_plan, ledger.planned([]),",
        _tests("unit/methods/dp_sad/test_spread", "test_both_releases_are_charged_before_they_are_made"),
    ),
    Mutation(
        "a release without a charge", SANITIZER,
        "        self.charge()\n        if self.num_made", "        if self.num_made",
        _tests("statistical/test_sanitizer", "test_overspending_is_refused_before_a_row_is_looked_at"),
    ),
    Mutation(
        "a charge after the rows were made", SANITIZER,
        "        self.charge()\n        if self.num_made",
        "        chunks = list(chunks)\n        self.charge()\n        if self.num_made",
        _tests("statistical/test_sanitizer", "test_overspending_is_refused_before_a_row_is_looked_at"),
    ),
    Mutation(
        "one release more than planned", SANITIZER,
        "if self.num_made >= self.plan.num_releases", "if self.num_made > self.plan.num_releases",
        _tests("statistical/test_sanitizer", "test_more_releases_than_planned_are_refused"),
    ),
    Mutation(
        "a run that goes on without its ledger", SANITIZER,
        'self.ledger.load_state_dict(state["ledger"])', "pass",
        _tests("statistical/test_sanitizer", "test_a_resumed_plan_is_not_charged_again_and_has_what_is_left"),
    ),
    Mutation(
        "a run that goes on and makes all its releases again", SANITIZER,
        'self.charged, self.num_made = state["charged"], state["num_made"]', 'self.charged = state["charged"]',
        _tests("statistical/test_sanitizer", "test_a_resumed_plan_is_not_charged_again_and_has_what_is_left"),
    ),
    Mutation(
        "a run that goes on with less noise than was charged", SANITIZER,
        "if ReleasePlan.from_dict(begun) != self.plan:", "if False:",
        _tests("statistical/test_sanitizer", "test_another_plan_is_not_resumed"),
    ),
    Mutation(
        "weights saved without their ledger", DP_SGD,
        "optimizer=optimizer, sanitizer=sanitizer)", "optimizer=optimizer)",
        _tests(
            "unit/training/test_dp_sgd",
            "test_a_stopped_loop_goes_on_with_the_releases_that_are_left_and_the_ledger_that_it_had",
        ),
    ),
    Mutation(
        "a charge that a crash in the first step forgets", DP_SGD,
        "    sanitizer.charge()\n", "",
        _tests("unit/training/test_dp_sgd", "test_the_charge_is_on_disk_before_a_row_is_made"),
    ),
    Mutation(
        "no checkpoint before the first step", CHECKPOINT,
        "saved_at = -math.inf", "saved_at = time.monotonic()",
        _tests("unit/runtime/test_checkpoint", "test_the_parts_are_on_disk_before_the_first_step"),
    ),
    Mutation(
        "prototypes taken up without what they have cost", PROTOTYPE_RELEASE,
        'ledger.take_over(state["ledger"])', "pass",
        _tests("unit/methods/dp_sad/test_prototype_release", "test_whoever_takes_prototypes_up_is_charged_what_they_"
               "have_cost"),
    ),
    Mutation(
        "a checkpoint of other settings taken up", CHECKPOINT,
        "named = fingerprint and", "named = not fingerprint and",
        _tests("unit/runtime/test_checkpoint", "test_a_checkpoint_of_other_settings_is_refused"),
    ),
    Mutation(
        "a run that goes on with other records", CONTEXT,
        "elif noted != fingerprint:", "elif not fingerprint:",
        _tests("unit/runtime/test_public_num_records", "test_a_run_is_about_the_records_it_was_begun_with"),
    ),
    Mutation(
        "a fingerprint of the images without their labels", "dpsad/data/records.py",
        "for tensor in (self.images, self.labels):", "for tensor in (self.images,):",
        _tests("unit/runtime/test_public_num_records", "test_a_run_is_about_the_records_it_was_begun_with"),
    ),
    Mutation(
        "a set that a program has changed taken for the one it was", "dpsad/data/arrays.py",
        "images = replace(images)", "images = images",
        _tests("unit/data/test_arrays", "test_a_set_that_a_program_changed_since_is_another_one"),
    ),
    Mutation(
        "a charge without its name in a run that takes it over", LEDGER,
        'self._enter(plan, state["fixed_noise"])', 'self._enter(replace(plan, charge_id=""), state["fixed_noise"])',
        _tests("unit/privacy/test_ledger", "test_every_charge_has_a_name_of_its_own_that_a_take_over_keeps"),
    ),
    Mutation(
        "copies of a half-made run that pass for one", SANITIZER,
        "self.ledger.renew(self.plan)", "pass",
        _tests("unit/privacy/test_ledger", "test_half_made_releases_that_are_gone_on_with_get_another_name"),
    ),
    Mutation(
        "two processes in one run folder", "dpsad/runtime/run_lock.py",
        "fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)", "pass",
        _tests("commands/test_ledger_command", "test_a_second_process_in_a_folder_is_refused_and_a_dead_one_keeps_"
               "nobody_out"),
    ),
    Mutation(
        "a second batch and noise for a release that a crash undid", "dpsad/privacy/sanitizer.py",
        'if state.get("randomness"):', "if False:",
        _tests("commands/test_interrupted_runs", "test_a_killed_command_goes_on_as_if_it_had_not_been_killed[dpdm by "
               "secret noise]"),
    ),
    Mutation(
        "critics that are warmed again after a kill", "dpsad/methods/gs_wgan.py",
        "if config.warm_steps and not checkpoint.begun:", "if config.warm_steps and checkpoint.step == 0:",
        _tests("commands/test_interrupted_runs", "test_a_killed_command_goes_on_as_if_it_had_not_been_killed[gs-wgan]"),
    ),
    Mutation(
        "a line of the log before its step is saved", CHECKPOINT,
        "        log.hold()\n", "",
        _tests("unit/runtime/test_checkpoint", "test_what_a_step_tells_is_told_once_it_is_on_disk"),
    ),
    Mutation(
        "releases from a model that is not finite any more", CHECKPOINT,
        "if not all_finite(part.state_dict())]", "if False]",
        _tests("unit/training/test_not_finite", "test_gradient_steps_stop_before_the_next_release"),
    ),
    Mutation(
        "a stage that broke and may draw its noise anew", CHECKPOINT,
        "            self._stop_for_good(said)\n", "            pass\n",
        _tests("unit/runtime/test_checkpoint", "test_a_stage_that_spends_and_breaks_stops_for_good",
               "test_a_stage_that_breaks_before_its_first_save_keeps_what_it_spent"),
    ),
    Mutation(
        "a stage that stopped for good and is gone on with", CHECKPOINT,
        'if "stopped" in state:', "if False:",
        _tests("unit/runtime/test_checkpoint", "test_a_stage_that_spends_and_breaks_stops_for_good",
               "test_a_stage_that_breaks_before_its_first_save_keeps_what_it_spent"),
    ),
    Mutation(
        "a half-distilled student that goes on with another teacher", STUDENT,
        "settings.network, *sources, unnamed=False", "settings.network, unnamed=False",
        _tests("commands/test_changed_teacher", "test_a_teacher_made_anew_on_the_same_records_is_refused[distill]"),
    ),
    Mutation(
        "a half-refined student that goes on with another teacher's charges", "dpsad/training/private_denoiser.py",
        "*([learned_from] if learned_from else []))", ")",
        _tests("commands/test_changed_teacher", "test_a_teacher_made_anew_on_the_same_records_is_refused[refine]"),
    ),
    Mutation(
        "refinement that spends what is reserved for the guide", "dpsad/training/private_denoiser.py",
        "context.ledger.planned(reserved).calibrate(", "context.ledger.calibrate(",
        _tests(
            "commands/test_guide",
            "test_a_run_that_was_stopped_in_its_guide_and_before_it_goes_on_without_a_second_charge",
        ),
    ),
    Mutation(
        "refinement that spends what is reserved for matching", "dpsad/methods/dp_sad/student.py",
        "reserved=[*for_guide, *for_matching]", "reserved=for_guide",
        _tests(
            "commands/test_guide",
            "test_a_run_that_was_stopped_in_its_guide_and_before_it_goes_on_without_a_second_charge",
        ),
    ),
    Mutation(
        "class means divided by realised counts", "dpsad/methods/dp_sad/matching.py",
        "means.sums.copy_(sums)",
        "means.sums.copy_(sums); "
        "means.sums[:, -1] = torch.bincount(records.labels, minlength=len(means.sums)) * math.sqrt(COUNT_SHARE)",
        _tests(
            "unit/api/test_post_processing",
            "test_with_the_same_releases_other_records_change_nothing_that_is_shared[dp-sad, matched]",
        ),
    ),
    Mutation(
        "a half-taught teacher that goes on with other prototypes", "dpsad/methods/dp_sad/teacher.py",
        '"teach", config, network, source, unnamed', '"teach", config, network, unnamed',
        _tests("commands/test_changed_teacher", "test_a_teacher_half_taught_is_not_gone_on_with_by_other_prototypes"),
    ),
    Mutation(
        "a teacher known again by its weights and not by what it was charged", "dpsad/methods/dp_sad/teacher.py",
        '"prototypes": prototypes})', '"prototypes": None})',
        _tests("commands/test_changed_teacher", "test_a_teacher_made_anew_on_the_same_records_is_refused[distill]"),
    ),
    Mutation(
        "a student gone on with that does not say whom it learned from", STUDENT,
        "*sources, unnamed=False", "*sources",
        _tests("commands/test_changed_teacher", "test_a_stage_that_does_not_say_what_it_learned_from_is_refused"),
    ),
    Mutation(
        "a fingerprint of a model's shapes and not of its weights", "dpsad/runtime/state_fingerprint.py",
        ".numpy().tobytes()", '.numpy().tobytes()[:0]',
        _tests("unit/runtime/test_state_fingerprint", "test_every_difference_is_another_one"),
    ),
    Mutation(
        "a ledger taken up that drops what is charged here", LEDGER,
        "dropped = _left_out(self.entries, loaded)", "dropped = _left_out([], loaded)",
        _tests("unit/privacy/test_ledger", "test_a_ledger_that_is_taken_up_drops_no_charge",
               "test_a_sanitizer_is_not_gone_on_with_where_that_drops_a_charge"),
    ),
    Mutation(
        "charges of equal plans taken for one another", LEDGER,
        "elif not plan.charge_id or plan.charge_id not in found:",
        "elif plan not in loaded:",
        _tests("unit/privacy/test_ledger", "test_a_ledger_that_is_taken_up_drops_no_charge"),
    ),
    Mutation(
        "weights that are not finite in a release", "dpsad/release/export.py",
        'require_finite("the student", made.model, '
        '"nothing was released; train another with a lower learning rate")', "pass",
        _tests("unit/release/test_export", "test_weights_that_are_not_finite_are_not_exported"),
    ),
]  # fmt: skip

STATEMENTS = [
    Mutation(
        "an epsilon from the config in place of the ledger's", LEDGER,
        '"epsilon": spent if spent < math.inf else None', '"epsilon": self.epsilon',
        _tests("unit/privacy/test_statement", "test_it_states_what_was_spent_and_not_what_was_asked_for"),
    ),
    Mutation(
        "fixed noise kept from the ledger", SANITIZER,
        "fixed_noise=self.randomness.repeatable", "fixed_noise=False",
        _tests("unit/privacy/test_statement", "test_noise_that_can_be_repeated_voids_it_wherever_it_was_added"),
    ),
    Mutation(
        "fixed noise forgiven by a later charge", LEDGER,
        "self.fixed_noise |= fixed_noise", "self.fixed_noise = fixed_noise",
        _tests("unit/privacy/test_statement", "test_noise_that_can_be_repeated_voids_it_wherever_it_was_added"),
    ),
    Mutation(
        "fixed noise of another run forgotten", LEDGER,
        'self._enter(plan, state["fixed_noise"])', "self._enter(plan, False)",
        _tests("unit/privacy/test_statement", "test_noise_that_can_be_repeated_voids_it_wherever_it_was_added"),
    ),
    Mutation(
        "fixed noise left out of the statement", STATEMENT,
        "reasons = [FIXED_NOISE] if ledger.fixed_noise else []", "reasons: list[str] = []",
        _tests("unit/privacy/test_statement", "test_noise_that_can_be_repeated_voids_it_wherever_it_was_added"),
    ),
    Mutation(
        "a nominal run called formal", STATEMENT,
        '"formal": False,', '"formal": True,',
        _tests("unit/privacy/test_statement", "test_a_nominal_epsilon_is_never_called_epsilon"),
    ),
    Mutation(
        "a size that was read from the data called covered", CONTEXT,
        "return not self.stated_num_records", "return False",
        _tests("unit/runtime/test_public_num_records", "test_a_stated_number_of_records_is_the_one_that_counts"),
    ),
    Mutation(
        "a model card that claims what the statement does not", "dpsad/release/model_card.py",
        'if statement["formal"]:', 'if statement["epsilon"] is not None:',
        _tests("unit/release/test_model_card", "test_a_card_of_what_is_not_formal_claims_nothing_and_says_why"),
    ),
    Mutation(
        "a claim in spite of a limit on the records", STATEMENT,
        "reasons.append(LIMITED)", "pass",
        _tests("unit/privacy/test_ledger", "test_the_statement_lists_what_was_read_off_and_a_limit_voids_it"),
    ),
    Mutation(
        "a limit that nobody notes", SOURCES,
        "read_off=(*records.read_off, LIMITED)", "read_off=records.read_off",
        _tests("unit/data/test_neighbours", "test_what_is_not_stated_is_said_to_be_read_off"),
    ),
    Mutation(
        "a claim although no noise was added", STATEMENT,
        "reasons.append(NO_NOISE)", "pass",
        _tests("unit/privacy/test_statement", "test_without_noise_nothing_is_claimed"),
    ),
    Mutation(
        "what was read off the records kept from the ledger", CONTEXT,
        "self.ledger.note(records.read_off)", "pass",
        _tests("unit/api/test_training", "test_stated_classes_are_not_read_off_and_a_limit_voids_the_claim"),
    ),
    Mutation(
        "what was read off the records of another run forgotten", LEDGER,
        'self._enter(plan, state["fixed_noise"])\n        self.note(state.get("read_off", ()))',
        'self._enter(plan, state["fixed_noise"])',
        _tests("unit/privacy/test_ledger", "test_what_was_read_off_the_records_stays_and_travels_with_the_charges"),
    ),
    Mutation(
        "what was read off the records left out of the statement", STATEMENT,
        "not_covered += [fact for fact in ledger.read_off if fact != LIMITED]", "pass",
        _tests("unit/privacy/test_ledger", "test_the_statement_lists_what_was_read_off_and_a_limit_voids_it"),
    ),
    Mutation(
        "a range of pixels that was read off and not said to be", "dpsad/data/npz.py",
        'read_off = [RANGE_OF_DATA] if config.range == "auto" and array.dtype.kind == "f" else []',
        "read_off: list[str] = []",
        _tests("unit/data/test_neighbours", "test_what_is_not_stated_is_said_to_be_read_off"),
    ),
    Mutation(
        "no word of a delta that is too large", STATEMENT,
        "elif num_records is not None and ledger.delta * num_records >= 1:", "elif False:",
        _tests("unit/privacy/test_ledger", "test_a_delta_that_is_too_large_for_the_records_is_in_the_statement"),
    ),
    Mutation(
        "no word of a delta that is too large for a number nobody knows", STATEMENT,
        "    if num_records is None and not size_is_public:", "    if False:",
        _tests("unit/privacy/test_ledger", "test_where_the_number_of_records_is_private_the_statement_says_for_how_"
               "many_delta_is_too_large"),
    ),
    Mutation(
        "a nominal epsilon without its reasons", STATEMENT,
        '"reasons": list(reasons),', '"reasons": [],',
        _tests("unit/privacy/test_statement", "test_a_nominal_epsilon_is_never_called_epsilon"),
    ),
    Mutation(
        "half of the reasons against a nominal epsilon", "dpsad/methods/dp_sad/nominal_noise.py",
        "*MODEL_REASONS, SAMPLING_REASON]", "*MODEL_REASONS]",
        _tests("unit/methods/dp_sad/test_nominal_noise", "test_reasons_name_what_applies"),
    ),
    Mutation(
        "public images left out of the statement", STATEMENT,
        "not_covered += [PUBLIC_IMAGES] if set(public_images) - {UNNOTED} else []", "pass",
        _tests("unit/training/test_provenance_is_carried", "test_records_that_were_called_public_are_refused_by_the_"
               "loop_and_the_statement"),
    ),
]  # fmt: skip

PROVENANCES = [
    Mutation(
        "the least private of what a model has seen", PROVENANCE,
        "for kind in reversed(Provenance)", "for kind in Provenance",
        _tests("unit/training/test_provenance_is_carried", "test_what_is_released_together_is_as_private_as_its_parts"),
    ),
    Mutation(
        "a denoiser that forgets what it was trained on", DENOISER,
        "combined(denoiser.provenance, batches.provenance)", "denoiser.provenance",
        _tests("unit/training/test_provenance_is_carried", "test_a_denoiser_has_seen_what_it_learned_from_and_what_it_"
               "started_as"),
    ),
    Mutation(
        "prototypes that forget what they have seen in a file", "students/prototypes.py",
        'Provenance(state.get("provenance", Provenance.RELEASED))', "Provenance.RELEASED",
        _tests("unit/students/test_prototypes", "test_what_they_have_seen_goes_wherever_they_go"),
    ),
    Mutation(
        "a denoiser's file that is public whatever it says", DENOISER_FILES,
        '= Provenance(saved["provenance"]), public', "= Provenance.PUBLIC, public",
        _tests("unit/training/test_denoiser_files", "test_a_denoiser_comes_back_also_from_before_its_shape_had_all_its_"
               "keys"),
    ),
    Mutation(
        "a private model in DP-SGD", DP_SGD,
        'require_released("the model", provenance_of(model), "a loop that clips gradients")', "pass",
        _tests(
            "unit/training/test_provenance_is_carried",
            "test_a_denoiser_that_was_trained_on_records_is_refused_by_the_loop_that_clips",
        ),
    ),
    Mutation(
        "a private teacher beside a formal student", "dpsad/methods/dp_sad/distillation.py",
        "    if sanitize is None:\n        for what", "    if sanitize is not None:\n        for what",
        _tests("unit/methods/dp_sad/test_distillation", "test_without_a_sanitizer_nothing_may_have_seen_records"),
    ),
    Mutation(
        "a statement about a private student", METHOD,
        'require_released("the student", provenance_of(made.model), "a release that claims a guarantee")', "pass",
        _tests(
            "unit/training/test_provenance_is_carried",
            "test_a_denoiser_that_was_trained_on_records_is_refused_by_the_loop_that_clips",
        ),
    ),
    Mutation(
        "a released model taken for a public one", "dpsad/methods/public_denoiser.py",
        "if provenance is not Provenance.PUBLIC:", "if provenance is Provenance.PRIVATE:",
        _tests("commands/test_dp_diffusion", "test_only_a_model_that_saw_nothing_private_is_started_from"),
    ),
    Mutation(
        "records taken for public images", CONTEXT,
        'require_apart("the public images", (hashed(public), hashed(public, records.image_shape[1:])), records)',
        "pass",
        _tests("commands/test_public_images", "test_the_default_is_not_public"),
    ),
    Mutation(
        "public images compared with records at their own size alone", CONTEXT,
        "(hashed(public), hashed(public, records.image_shape[1:])), records)", "(hashed(public),), records)",
        _tests("commands/test_public_images", "test_a_copy_of_the_records_is_not_public[as_they_were_before_records_"
               "were_enlarged]"),
    ),
    Mutation(
        "records compared with public images at another size", PUBLIC_IMAGES,
        "resized(grey.cpu(), size)", "grey.cpu()",
        _tests("unit/data/test_public_images", "test_records_are_compared_at_the_size_of_the_public_images"),
    ),
    Mutation(
        "records in colour that pass for others", PUBLIC_IMAGES,
        "grey = to_grey(part) if part.shape[1] == 3 else part", "grey = part",
        _tests("unit/data/test_public_images", "test_neither_order_nor_labels_nor_type_nor_channels_nor_repetition_"
               "matter"),
    ),
    Mutation(
        "latents compared in place of their images", PUBLIC_IMAGES,
        "images if images.origin is None else images.origin", "images",
        _tests("unit/training/test_provenance_is_carried", "test_latents_are_the_images_that_they_stand_for"),
    ),
    Mutation(
        "a model of records that were called public in DP-SGD", DP_SGD,
        '    require_apart("the model", public_images_of(model), records)', "    pass",
        _tests("unit/training/test_provenance_is_carried", "test_records_that_were_called_public_are_refused_by_the_"
               "loop_and_the_statement"),
    ),
    Mutation(
        "a statement about a model of records that were called public", METHOD,
        'context.require_apart("the student", public_images)', "pass",
        _tests("unit/training/test_provenance_is_carried", "test_records_that_were_called_public_are_refused_by_the_"
               "loop_and_the_statement"),
    ),
    Mutation(
        "a denoiser that forgets which public images it was trained on", DENOISER,
        "united(denoiser.public_images, batches.public_images)", "denoiser.public_images",
        _tests("unit/training/test_provenance_is_carried", "test_records_that_were_called_public_are_refused_by_the_"
               "loop_and_the_statement"),
    ),
    Mutation(
        "a denoiser's file without its public images", DENOISER_FILES,
        "[images.state_dict() for images in denoiser.public_images]", "[]",
        _tests("commands/test_public_images", "test_a_model_that_was_pretrained_on_records_is_refused"),
    ),
    Mutation(
        "a latent model that forgets what its decoder has learned from", "students/latent.py",
        "united(public_images_of(denoiser), public_images_of(decoder))", "public_images_of(denoiser)",
        _tests("unit/training/test_provenance_is_carried", "test_latents_are_the_images_that_they_stand_for"),
    ),
]  # fmt: skip

SHARED = [
    Mutation(
        "a spread divided by how many records there are", "dpsad/methods/dp_sad/spread.py",
        "counts = prototypes.counts.double().clamp(min=0)",
        "counts = torch.bincount(nearest, minlength=len(prototypes.images)).double()",
        _shared("dp-sad, spread"),
    ),
    Mutation(
        "a private batch size as divisor", DP_SGD,
        "released / expected_batch_size)", "released / max(1, len(joined)))",
        _tests("unit/training/test_dp_sgd", "test_a_step_divides_by_the_expected_size_and_not_by_how_many_joined"),
    ),
    Mutation(
        "a private number of shards as divisor", GS_WGAN,
        "outputs.backward(released / config.shards_per_step)", "outputs.backward(released / max(1, len(joined)))",
        _shared("gs-wgan"),
    ),
    Mutation(
        "the size of the data where a number was stated", CONTEXT,
        "return self.stated_num_records or len(records)", "return len(records)",
        _tests("unit/runtime/test_public_num_records", "test_a_stated_number_of_records_is_the_one_that_counts"),
    ),
    Mutation(
        "class counts that are not the released ones", "dpsad/methods/class_means.py",
        "images, counts = means_of(sums, count_share, plan.noise_scale)",
        "images, counts = means_of(sums, count_share, plan.noise_scale)[0], records.labels.bincount().float()",
        _shared("class-means"),
    ),
    Mutation(
        "a mean divided by private class counts", "dpsad/methods/dp_merf.py",
        "means = embedding.means(config.count_share, sanitizer.plan.noise_scale).to(rng.device)",
        "means = embedding.sums[:, :-1] / records.labels.bincount(minlength=num_classes)[:, None]",
        _shared("dp-merf"),
    ),
    Mutation(
        "a kernel mean divided by private class counts", "dpsad/methods/dp_kernel.py",
        "landmarks, weights = mean.function(config, kernel, sanitizer.plan.noise_scale)",
        "landmarks, weights = mean.function(config, kernel, sanitizer.plan.noise_scale)\n"
        "            weights = weights / records.labels.bincount(minlength=num_classes)[:, None]",
        _shared("dp-kernel"),
    ),
    Mutation(
        "landmarks among the records", "dpsad/methods/dp_kernel.py",
        "ask(generated(config.landmarks))",
        "ask(records.images[: num_classes * config.landmarks].flatten(1).unflatten(0, (num_classes, -1)))",
        _shared("dp-kernel"),
    ),
    Mutation(
        "survivors by the votes without noise", "dpsad/methods/private_evolution.py",
        "votes = votes_of(sums.to(rng.device), config.threshold, sanitizer.plan.noise_scale)",
        "rows = vote_rows(records, candidates.unflatten(0, (num_classes, num)), embed)\n"
        "        votes = torch.cat([chunk.block for chunk in rows]).bincount(minlength=num_classes * num).float()",
        _shared("private-evolution"),
    ),
    Mutation(
        "a vote for each of two nearest images", "dpsad/methods/private_evolution.py",
        "torch.ones(len(labels), 1, device=candidates.device)",
        "torch.full((len(labels), 1), 0.5, device=candidates.device)",
        _tests("unit/methods/test_private_evolution", "test_a_record_has_one_vote_whatever_it_is"),
    ),
    Mutation(
        "public classes chosen by the records' own histogram", "dpsad/methods/privimage.py",
        "chosen = chosen_classes(sums, config.selected)",
        "chosen = chosen_classes(sum(\n"
        "        torch.zeros_like(sums).index_add_(0, chunk.block, chunk.values)\n"
        "        for chunk in rows(context.randomness)\n    ), config.selected)",
        _shared("privimage"),
    ),
    Mutation(
        "a histogram that grows with the words of a record", "dpsad/methods/privimage.py",
        "1 / math.sqrt(words))", "1.0 / words)",
        _tests("unit/methods/test_privimage", "test_adding_a_record_moves_the_histogram_by_exactly_one"),
    ),
    Mutation(
        "central images of one batch for all releases", "dpsad/methods/dp_feta.py",
        "small.take(poisson_sample(len(small), plan.sampling_prob, randomness))",
        "small.take(torch.arange(round(len(small) * plan.sampling_prob)))",
        _tests("unit/methods/test_dp_feta", "test_every_release_is_of_its_own_poisson_sample"),
    ),
    Mutation(
        "central images divided by private class counts", "dpsad/methods/dp_feta.py",
        "[means_of(some, config.count_share, plan.noise_scale)[0] for some in sums]",
        "[some[:, :-1] / small.labels.bincount(minlength=num_classes)[:, None] for some in sums]",
        _shared("dp-feta"),
    ),
    Mutation(
        "a release that is made anew after a crash", "dpsad/methods/kept_releases.py",
        "checkpoint.track(held=held, sanitizer=sanitizer)", "checkpoint.track(sanitizer=sanitizer)",
        _tests("unit/methods/test_dp_feta", "test_central_images_are_released_once"),
    ),
    Mutation(
        "prototypes with counts that are not the released ones", "dpsad/methods/dp_sad/prototype_release.py",
        "released = Released(prototypes, answers, subject, ledger.state_dict())",
        "prototypes = replace(prototypes, counts=records.labels.bincount().float()[prototypes.labels])\n"
        "    released = Released(prototypes, answers, subject, ledger.state_dict())",
        _shared("dp-sad"),
    ),
    Mutation(
        "a kernel's length scale from the records", "dpsad/methods/dp_merf.py",
        "features=features_of(config, ",
        "features=features_of("
        "DpMerfConfig(num_features=config.num_features, length_scale=records.images.std().item()), ",
        _shared("dp-merf"),
    ),
    Mutation(
        "an optimizer that steps on rows without noise", DP_SGD,
        "set_gradients(model, released / expected_batch_size)",
        "set_gradients(model, sum(torch.cat([part.sum(0) for part in chunk.parts]) for chunk in "
        "chunks(records.images[joined], records.labels[joined])))",
        _shared("dpdm"),
    ),
    Mutation(
        "the size of a batch in the public log", DP_SGD,
        RELEASED_NORM, "released_norm = float(len(joined))",
        _shared("dpdm"),
    ),
    Mutation(
        "the norm of the batch in the public log, before the noise", DP_SGD,
        RELEASED_NORM, "released_norm = records.images[joined].norm().item()",
        _shared("dpdm"),
    ),
    Mutation(
        "a teacher's loss in the public log", DENOISER,
        "log.private(step=step + 1, teacher_loss", "log.public(step=step + 1, teacher_loss",
        _tests("unit/training/test_denoiser", "test_what_it_measures_on_images_stays_private"),
    ),
    Mutation(
        "a shard's teacher whose failure everybody sees", "dpsad/methods/dp_sad/shard_teachers.py",
        "learning_rate_key=None,", 'learning_rate_key="shards.learning_rate",',
        _tests("unit/training/test_not_finite", "test_nobody_sees_that_a_shard_s_teacher_failed"),
    ),
    Mutation(
        "private numbers in the public file", "dpsad/runtime/log.py",
        "(self.run.path if is_public else self.run.private)", "self.run.path",
        _tests("unit/runtime/test_run_folder", "test_private_numbers_stay_out_of_the_public_file"),
    ),
    Mutation(
        "times in the public file", "dpsad/runtime/log.py",
        "self._tell(True, values)", 'self._tell(True, {"time": time.monotonic() - self.started, **values})',
        _tests("unit/runtime/test_run_folder", "test_private_numbers_stay_out_of_the_public_file"),
    ),
    Mutation(
        "a private folder that others may read", "dpsad/runtime/run_folder.py",
        "run.private.chmod(0o700)", "run.private.chmod(0o755)",
        _tests("unit/runtime/test_run_folder", "test_a_new_folder_keeps_its_private_part_to_its_owner"),
    ),
]  # fmt: skip

DATA = [
    Mutation(
        "shards by a record's place", "dpsad/data/shards.py",
        "[shard_of(record_id, num_shards, key=key) for record_id in ids]", "[i % num_shards for i in range(len(ids))]",
        _tests("unit/data/test_shards", "test_a_record_added_moves_no_other"),
    ),
    Mutation(
        "ids by a record's place", "dpsad/data/arrays.py",
        "-{seen[digest.digest()]}", "-{len(ids)}",
        _tests("unit/data/test_arrays", "test_a_record_that_goes_moves_no_other_s_id"),
    ),
    Mutation(
        "ids in an archive by a record's place", "dpsad/data/npz.py",
        "ids=content_ids(images, stored[own].tolist())", "ids=tuple(map(str, range(len(images))))",
        _tests("unit/data/test_neighbours", "test_a_record_that_goes_takes_its_own_facts_alone[write_npz-0]"),
    ),
    Mutation(
        "ids in a torchvision set by a record's place", "dpsad/data/torchvision_sets.py",
        "ids=content_ids(images, labels)", "ids=tuple(map(str, range(len(labels))))",
        _tests("unit/data/test_neighbours", "test_a_record_that_goes_takes_its_own_facts_alone[write_mnist-0]"),
    ),
    Mutation(
        "a share by a record's place", SOURCES,
        "[joins(name, config.share) for name in records.ids]",
        "[joins(str(place), config.share) for place in range(len(records))]",
        _tests("unit/data/test_neighbours", "test_a_record_that_goes_takes_its_own_facts_alone[write_npz-0]"),
    ),
    Mutation(
        "a share of a folder by a file's place", "dpsad/data/listing.py",
        "for entry in entries if entry.side == split and joins(entry.record_id, config.share)]",
        "for place, entry in enumerate(entries) if entry.side == split and joins(str(place), config.share)]",
        _tests("unit/data/test_neighbours", "test_a_record_that_goes_takes_its_own_facts_alone[write_folder-0]"),
    ),
    Mutation(
        "training and test side by a record's place", "dpsad/data/folder.py",
        "side or side_of(record_id)", 'side or ("test" if len(entries) % 5 == 0 else "train")',
        _tests("unit/data/test_sources", "test_unsplit_folder_moves_no_record_when_one_is_added"),
    ),
    Mutation(
        "training and test side in an archive by a record's place", "dpsad/data/listing.py",
        "part or side_of(record_id)", 'part or ("test" if len(entries) % 5 == 0 else "train")',
        _tests("unit/data/test_neighbours", "test_a_record_that_goes_takes_its_own_facts_alone[write_archive-0]"),
    ),
    Mutation(
        "ids in an archive of text labels by the classes that others have", "dpsad/data/npz.py",
        "stored[own].tolist()", "labels[own].tolist()",
        _tests("unit/data/test_sources", "test_a_label_that_comes_moves_no_id_in_an_npz"),
    ),
]  # fmt: skip

SELECTIONS = [
    Mutation(
        "the best of several runs at the price of one", LEDGER,
        "[self.selection.event(events)] if self.selection and events else events", "events",
        _tests("unit/privacy/test_selection", "test_a_ledger_of_a_selection_pays_for_all_that_was_tried"),
    ),
    Mutation(
        "a number of runs that everybody knows", "dpsad/privacy/selection.py",
        "if uniform < below or", "if number >= self.mean or",
        _tests("unit/privacy/test_selection", "test_the_number_of_runs_has_the_distribution_that_is_accounted"),
    ),
    Mutation(
        "a score of the records without noise or charge", "dpsad/commands/tune.py",
        "return Sanitizer(scoring.plan(), ledger, randomness).release([rows], (1,)).item()",
        "return rows.sum().item()",
        _tests("commands/test_tune", "test_a_score_is_charged_and_its_noise_has_the_planned_scale"),
    ),
    Mutation(
        "candidates that release other sums", "dpsad/commands/tune.py",
        "if plans(candidate, epsilon) != planned:", "if False:",
        _tests("commands/test_tune", "test_candidates_that_release_other_sums_are_refused_before_anything_is_made"),
    ),
]  # fmt: skip

RANKS_FILE = "dpsad/runtime/ranks.py"
TOGETHER = [
    Mutation(
        "noise added by every rank", SANITIZER,
        "if self.together.leads:", "if True:",
        _tests("unit/privacy/test_together", "test_noise_of_several_ranks_has_the_planned_scale"),
    ),
    Mutation(
        "rows of other ranks left out", SANITIZER,
        "        self.together.add_up(total)\n", "",
        _tests("unit/privacy/test_together",
               "test_a_sum_without_noise_is_that_of_one_process_to_the_bit_in_every_rank"),
    ),
    Mutation(
        "who joins drawn by all ranks from the same stream", RANKS_FILE,
        'draws.follow(key, f"rank {self.rank} of {self.size}")', 'draws.follow(key, f"{self.size} ranks")',
        _tests("unit/runtime/test_ranks", "test_no_two_ranks_and_no_two_steps_draw_the_same",
               "test_records_join_by_draws_of_their_own_with_the_planned_probability_in_every_rank"),
    ),
    Mutation(
        "the numbers of a rank's first step in every step", DP_SGD,
        "ranks.new_step(randomness, sanitizer.randomness)",
        "ranks.new_step(randomness, PrivateRandomness(seed=0))",
        _tests("unit/runtime/test_ranks",
               "test_records_join_by_draws_of_their_own_with_the_planned_probability_in_every_rank"),
    ),
    Mutation(
        "all records in every rank", RANKS_FILE,
        "torch.arange(num)[self.rank :: self.size]", "torch.arange(num)",
        _tests("unit/runtime/test_ranks", "test_every_unit_is_one_ranks_and_no_two",
               "test_ranks_release_the_prototypes_of_one_process_to_the_bit"),
    ),
    Mutation(
        "a checkpoint that every rank writes", CHECKPOINT,
        "            if self.ranks.leads:\n                kept", "            if True:\n                kept",
        _tests("unit/runtime/test_ranks", "test_only_rank_0_writes_a_checkpoint_and_all_take_up_what_it_has"),
    ),
]  # fmt: skip

MUTATIONS = [
    *SELECTIONS,
    *TOGETHER,
    *NOISE,
    *CLIPS,
    *MIXING,
    *SAMPLING,
    *ACCOUNTS,
    *CHARGES,
    *STATEMENTS,
    *PROVENANCES,
    *SHARED,
    *DATA,
]
