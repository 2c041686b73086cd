#include "lb_backward.h"

void lb_sgd_step(size_t n, const struct lb_sgd *sgd, float scale, float *d_weight, float *velocity, float *weight)
{
	const float rate = sgd->learning_rate, momentum = sgd->momentum, decay = sgd->weight_decay;

	for (size_t i = 0; i < n; i++) {
		const float gradient = d_weight[i] * scale + decay * weight[i];

		velocity[i] = momentum * velocity[i] + gradient;
		weight[i] -= rate * velocity[i];
		d_weight[i] = 0.0f;
	}
}
