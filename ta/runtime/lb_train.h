/*
 * Training the ops of a model file, in either world: forward, backward, a step of gradient descent.
 *
 * One sample at a time: the gradients of a batch add up. The caller owns one block of memory, in which everything lies:
 * every activation (none shares bytes with another, unlike in the arena that inference uses) and its gradient, the
 * gradients and velocities of the weights, and scratch. The weights are changed where they lie, in the file's bytes.
 *
 * Batch norms that are not folded away are frozen: they pass gradients on and learn nothing. So a model is
 * trained as PyTorch trains it in eval mode, with batch norms as they were folded into the layers before them.
 *
 * A sample goes through the segments in order, then back. A segment of the other world is somebody else's: what it takes
 * and gives, and the gradients of both, are put and got.
 */
#ifndef LB_TRAIN_H
#define LB_TRAIN_H

#include "lb_backward.h"
#include "lb_runtime.h"
#include "lb_training.h"

#define LB_MAX_TRAIN_BYTES (1u << 31)

/* Where in the block everything lies, in bytes. */
struct lb_train_plan {
	size_t tensors, flags, values, gradients, weight_gradients, velocities, spare, scratch;
	size_t bytes; /* of the block */
};

struct lb_train {
	struct lb_model model; /* with a table of tensors of its own: activations lie in `values` */
	struct lb_train_plan plan;
	unsigned char *block, *weights;
	const struct lb_dropout *dropouts;
	uint32_t n_dropouts;
	uint64_t seed; /* of the dropouts */
	uint64_t samples;
};

/*
 * The training section of a file that lb_model_parse() has found sound; `*training` is NULL when there is none.
 * LB_ERROR_TRAINING: there is something behind the sections that is no such section.
 */
enum lb_error lb_training_find(const struct lb_model *model, const struct lb_training **training,
			       const struct lb_dropout **dropouts);

/* LB_ERROR_TRAINING when the list of dropouts names ops that cannot have one. */
enum lb_error lb_train_check_dropouts(const struct lb_model *model, const struct lb_dropout *dropouts, uint32_t n);

/*
 * How much memory training takes. LB_ERROR_TRAINING: a tensor is not float32; one is written twice in a sample, so that
 * there is no telling what it was; or the file makes the answer, but not by a softmax that nothing else reads. LB_ERROR_SCRATCH: too much.
 */
enum lb_error lb_train_plan(const struct lb_model *model, struct lb_train_plan *plan);

/*
 * `block`: plan->bytes zero bytes, aligned to LB_ALIGN. `weights`: those of the file, writable. `gives_gradient`: whether
 * the gradient of the first segment's inputs is wanted; without that nothing is computed for it.
 */
void lb_train_begin(struct lb_train *train, const struct lb_model *model, const struct lb_train_plan *plan,
		    unsigned char *weights, void *block, int gives_gradient);

/* A new sample: the gradients of activations are gone, and other elements drop out. */
void lb_train_new_sample(struct lb_train *train);

/* Runs a segment of the file's own world on inputs that were put, with its dropouts. */
void lb_train_forward(struct lb_train *train, uint32_t segment);

/* After the last segment, when the file makes the answer: the gradient of the cross-entropy with `label` < n_classes. */
void lb_train_set_loss(struct lb_train *train, uint32_t label);

/* From the gradients of a segment's outputs to those of its weights, which are added, and of its inputs. */
void lb_train_backward(struct lb_train *train, uint32_t segment);

/*
 * A segment's tensors, concatenated: values as lb_segment_put_inputs() and its like, and gradients. What nothing has
 * contributed to has gradient 0; gradients that are put add to those that are there.
 */
void lb_train_put_inputs(struct lb_train *train, uint32_t segment, const void *from);
void lb_train_get_inputs(const struct lb_train *train, uint32_t segment, void *to);
void lb_train_put_outputs(struct lb_train *train, uint32_t segment, const void *from);
void lb_train_get_outputs(const struct lb_train *train, uint32_t segment, void *to);
void lb_train_add_input_gradients(struct lb_train *train, uint32_t segment, const void *from);
void lb_train_get_input_gradients(const struct lb_train *train, uint32_t segment, void *to);
void lb_train_add_output_gradients(struct lb_train *train, uint32_t segment, const void *from);
void lb_train_get_output_gradients(const struct lb_train *train, uint32_t segment, void *to);

/* One step with the mean gradient of `samples` >= 1, after which gradients are 0 again. */
void lb_train_step(struct lb_train *train, const struct lb_sgd *sgd, uint32_t samples);

/* Forgets the batch's gradients. */
void lb_train_drop_batch(struct lb_train *train);

/* Whether every number is one that makes sense: finite and at least 0, the momentum below 1. */
int lb_sgd_is_sound(const struct lb_sgd *sgd);

#endif
