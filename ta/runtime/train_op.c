#include "train_op.h"

#include "geometry.h"

static int is_depthwise(const struct lb_model *model, const struct lb_op *op)
{
	return model->tensors[op->weight].layout == LB_LAYOUT_PLAIN;
}

static struct lb_conv2d conv_of(const struct lb_model *model, const struct lb_op *op)
{
	return lb_conv2d_of(op, lb_input(model, op, 0), &model->tensors[op->weight], &model->tensors[op->output]);
}

size_t lb_op_backward_scratch_bytes(const struct lb_model *model, const struct lb_op *op)
{
	struct lb_conv2d conv;
	size_t input, weight;

	if (op->kind != LB_OP_CONV2D || is_depthwise(model, op))
		return 0;
	conv = conv_of(model, op);
	input = lb_conv2d_backward_input_scratch_bytes(&conv);
	weight = lb_conv2d_backward_weight_scratch_bytes(&conv);
	return input > weight ? input : weight;
}

/* Where the gradient of input `i` is to be written: into place, or aside when something has contributed before. */
static float *target(const struct lb_train *train, const struct lb_op *op, uint32_t i)
{
	const uint32_t tensor = train->model.refs[op->first_input + i];

	if (lb_train_flags(train)[tensor] & LB_TRAIN_REACHED)
		return (float *)(void *)(train->block + train->plan.spare);
	return lb_train_floats(train, train->plan.gradients, tensor);
}

static void contribute(struct lb_train *train, const struct lb_op *op, uint32_t i)
{
	const uint32_t tensor = train->model.refs[op->first_input + i];
	unsigned char *flags = lb_train_flags(train);
	float *gradient = lb_train_floats(train, train->plan.gradients, tensor);

	if (flags[tensor] & LB_TRAIN_REACHED)
		lb_add(lb_elements(&train->model.tensors[tensor]), LB_ACTIVATION_NONE, gradient,
		       (const float *)(const void *)(train->block + train->plan.spare), gradient);
	flags[tensor] |= LB_TRAIN_REACHED;
}

static int wants(const struct lb_train *train, const struct lb_op *op, uint32_t i)
{
	return lb_train_flags(train)[train->model.refs[op->first_input + i]] & LB_TRAIN_WANTS;
}

static const float *weight_of(const struct lb_train *train, uint32_t tensor)
{
	return (const float *)(const void *)(train->weights + train->model.tensors[tensor].offset);
}

static void backward_weights(struct lb_train *train, const struct lb_op *op, const float *d_out)
{
	const struct lb_model *model = &train->model;
	const float *x = lb_train_floats(train, train->plan.values, model->refs[op->first_input]);
	float *d_weight, *d_bias;
	struct lb_conv2d conv;

	if (op->kind != LB_OP_CONV2D && op->kind != LB_OP_LINEAR)
		return;
	d_weight = lb_train_floats(train, train->plan.weight_gradients, op->weight);
	d_bias = lb_train_floats(train, train->plan.weight_gradients, op->bias);
	if (op->kind == LB_OP_LINEAR) {
		lb_linear_backward_weight(lb_input(model, op, 0)->dims[0], model->tensors[op->output].dims[0], x, d_out,
					  d_weight, d_bias);
		return;
	}
	conv = conv_of(model, op);
	if (is_depthwise(model, op))
		lb_conv2d_depthwise_backward_weight(&conv, x, d_out, d_weight, d_bias);
	else
		lb_conv2d_backward_weight(&conv, x, d_out, d_weight, d_bias, train->block + train->plan.scratch);
}

static void backward_conv2d(struct lb_train *train, const struct lb_op *op, const float *d_out, float *d_in)
{
	const struct lb_conv2d conv = conv_of(&train->model, op);

	if (is_depthwise(&train->model, op))
		lb_conv2d_depthwise_backward_input(&conv, d_out, weight_of(train, op->weight), d_in);
	else
		lb_conv2d_backward_input(&conv, d_out, weight_of(train, op->weight), d_in,
					 train->block + train->plan.scratch);
}

/* Of an op with one input. */
static void backward_input(struct lb_train *train, const struct lb_op *op, const float *d_out, float *d_in)
{
	const struct lb_model *model = &train->model;
	const struct lb_tensor *in = lb_input(model, op, 0), *out = &model->tensors[op->output];
	const float *x = lb_train_floats(train, train->plan.values, model->refs[op->first_input]);
	const float *y = lb_train_floats(train, train->plan.values, op->output);
	struct lb_pool2d pool;

	switch (op->kind) {
	case LB_OP_CONV2D: backward_conv2d(train, op, d_out, d_in); break;
	case LB_OP_LINEAR:
		lb_linear_backward_input(in->dims[0], out->dims[0], d_out, weight_of(train, op->weight), d_in);
		break;
	case LB_OP_BATCH_NORM:
		lb_batch_norm_backward(in->dims[0], (size_t)lb_rows(in) * lb_columns(in), d_out,
				       weight_of(train, op->weight), d_in);
		break;
	case LB_OP_MAX_POOL2D:
		pool = lb_pool2d_of(op, in, out);
		lb_max_pool2d_backward(&pool, x, d_out, d_in);
		break;
	case LB_OP_AVG_POOL2D:
		pool = lb_pool2d_of(op, in, out);
		lb_avg_pool2d_backward(&pool, d_out, d_in);
		break;
	case LB_OP_ADAPTIVE_AVG_POOL2D:
		lb_adaptive_avg_pool2d_backward(in->dims[0], in->dims[1], in->dims[2], out->dims[1], out->dims[2],
						d_out, d_in);
		break;
	case LB_OP_LEAKY_RELU: lb_leaky_relu_backward(lb_elements(in), lb_slope(op), x, d_out, d_in); break;
	case LB_OP_SOFTMAX: lb_softmax_backward(lb_elements(in), y, d_out, d_in); break;
	default: lb_flatten(lb_elements(in), d_out, d_in); break; /* RELU, RELU6, ADD, FLATTEN hand it on */
	}
}

static enum lb_activation activation_of(const struct lb_op *op)
{
	if (op->kind == LB_OP_RELU)
		return LB_ACTIVATION_RELU;
	return op->kind == LB_OP_RELU6 ? LB_ACTIVATION_RELU6 : lb_fused(op);
}

void lb_op_backward(struct lb_train *train, const struct lb_op *op)
{
	const struct lb_model *model = &train->model;
	float *d_out = lb_train_floats(train, train->plan.gradients, op->output);
	const float *part = d_out;

	lb_relu_backward(lb_elements(&model->tensors[op->output]), activation_of(op),
			 lb_train_floats(train, train->plan.values, op->output), d_out);
	backward_weights(train, op, d_out);
	for (uint32_t i = 0; i < op->n_inputs; i++) {
		const size_t n = lb_elements(lb_input(model, op, i));

		if (wants(train, op, i)) {
			if (op->kind == LB_OP_CONCAT)
				lb_flatten(n, part, target(train, op, i));
			else
				backward_input(train, op, d_out, target(train, op, i));
			contribute(train, op, i);
		}
		part += n;
	}
}
