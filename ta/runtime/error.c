#include "lb_runtime.h"

const char *lb_strerror(enum lb_error error)
{
	switch (error) {
	case LB_OK: return "no error";
	case LB_ERROR_ALIGNMENT: return "the file's bytes do not start on a 64-byte boundary";
	case LB_ERROR_TRUNCATED: return "the file is shorter than its header";
	case LB_ERROR_MAGIC: return "not a model file (wrong magic)";
	case LB_ERROR_VERSION: return "a model file of another format version";
	case LB_ERROR_FILE_SIZE: return "the file's size differs from what its header says";
	case LB_ERROR_WORLD: return "the header names a world that does not exist";
	case LB_ERROR_COUNT: return "the header counts more tensors, ops, segments or refs than allowed, or no segment";
	case LB_ERROR_SECTION: return "a section is misaligned, leaves the file or overlaps another";
	case LB_ERROR_RESERVED: return "a reserved or unused field is not 0";
	case LB_ERROR_POLICY: return "no such output policy here, or its argument is out of range";
	case LB_ERROR_CLASSES: return "the answer is not one (n_classes,) tensor";
	case LB_ERROR_REF: return "a tensor index is out of range, or a range of refs leaves its section";
	case LB_ERROR_TENSOR_KIND: return "a tensor has an unknown kind or layout";
	case LB_ERROR_TENSOR_SHAPE: return "a tensor's rank or dimension is out of range";
	case LB_ERROR_TENSOR_BYTES: return "a tensor's size contradicts its shape and layout";
	case LB_ERROR_TENSOR_PLACE: return "a tensor is misaligned or leaves the arena or the weights";
	case LB_ERROR_SEGMENT_WORLD: return "a segment's world is impossible in this file";
	case LB_ERROR_SEGMENT_RANGE: return "the segments do not cover the ops in order";
	case LB_ERROR_SEGMENT_IO: return "a segment's inputs or outputs are missing, overlapping or no activations";
	case LB_ERROR_OP_KIND: return "an op of unknown kind";
	case LB_ERROR_OP_FUSED: return "an activation is fused into an op that cannot apply it";
	case LB_ERROR_OP_ATTR: return "an op's attribute is out of range";
	case LB_ERROR_OP_INPUTS: return "an op has the wrong number or kind of inputs, or a wrong output";
	case LB_ERROR_OP_WEIGHTS: return "an op's weights are missing, of the wrong shape or layout, or not wanted";
	case LB_ERROR_OP_SHAPE: return "an op's input and output shapes contradict its attributes";
	case LB_ERROR_OP_OVERLAP: return "an op would write over its own input";
	case LB_ERROR_UNWRITTEN: return "a tensor is read that nothing has written, or that was overwritten";
	case LB_ERROR_SCRATCH: return "an op needs more scratch memory than allowed";
	case LB_ERROR_ARGUMENT: return "an argument is out of range";
	case LB_ERROR_TENSOR_DTYPE: return "a tensor's element type is unknown, or not for its kind and layout";
	case LB_ERROR_TENSOR_SCALE: return "a tensor's scale is out of range, or set where there is none";
	case LB_ERROR_OP_DTYPE: return "an op does not work on tensors of these element types";
	case LB_ERROR_OP_SCALE: return "the scales of an op's tensors, or its multipliers, are out of range";
	case LB_ERROR_OP_RANGE: return "an int8 weight or its bias is out of range, or a sum has too many products";
	case LB_ERROR_SLICE: return "the slices do not cover the streamed filters in order";
	case LB_ERROR_SLICE_MISSING: return "the segment needs slices, which this call cannot have";
	case LB_ERROR_TRAINING:
		return "the model cannot be trained: it is not all of float32, a tensor is written twice, the answer "
		       "is no softmax's, or its training section or dropouts are wrong";
	}
	return "unknown error";
}
