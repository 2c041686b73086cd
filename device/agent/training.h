/* Training a loaded deployment: the public layers here, the hidden ones in the TA. */
#ifndef LB_AGENT_TRAINING_H
#define LB_AGENT_TRAINING_H

#include "deployment.h"

struct training;

/* Begins, or begins again; memory for it is `deployment`'s. `dropouts` are the public layers', as lb_training.h has them. */
int training_begin(struct deployment *deployment, const struct lb_train_begin *begin, const void *dropouts,
		   struct lb_train_begun *begun, struct failure *failure);

/*
 * What the normal world sees of a batch; NULL: is not wanted. Image by image, in the order of deployment_crossings(), the
 * tensors that cross and their gradients; the summed gradients of the public weights. Zeros before the batch.
 */
struct shown {
	unsigned char *crossings, *boundary, *gradients;
};

/* One batch of images and labels (uint32, any alignment). */
int training_batch(struct deployment *deployment, const struct lb_train_batch *batch, const unsigned char *images,
		   const unsigned char *labels, const struct shown *shown, struct lb_trained *trained,
		   struct failure *failure);

/* Ends the training and gets the hidden part, sealed to its owner, which the caller frees; NULL when nothing is hidden. */
int training_export(struct deployment *deployment, unsigned char **sealed, size_t *bytes, struct failure *failure);

/* Does nothing when there is none. */
void training_drop(struct deployment *deployment);

#endif
