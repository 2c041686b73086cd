/*
 * What the agent speaks on stdin and stdout. Little-endian; a frame is a header and `bytes` bytes of body.
 *
 * The host asks, one frame at a time, and waits; every answer carries the number of its request. The answer's type is
 * the request's with LB_FRAME_ANSWER set, or LB_FRAME_ERROR. After an error the agent waits for the next request,
 * except that it exits when it can no longer tell where a frame begins. At the end of stdin it exits.
 */
#ifndef LB_AGENT_PROTOCOL_H
#define LB_AGENT_PROTOCOL_H

#include <stdint.h>

#define LB_FRAME_MAGIC 0x3146424Cu /* "LBF1" */
#define LB_FRAME_VERSION 4u
#define LB_FRAME_MAX_BYTES 67108864u /* of a body, in either direction */
#define LB_FRAME_ANSWER 0x8000u
#define LB_FRAME_ERROR 0xFFFFu
#define LB_MAX_ROUNDS 1000000u

enum lb_frame_type {
	LB_FRAME_HELLO = 1, /* () -> lb_hello */
	LB_FRAME_LOAD = 2,  /* lb_load -> (); a deployment that was loaded before is dropped */
	LB_FRAME_LOAD_DATA =
		3, /* next bytes of public file, sealed, slices -> (), after the last lb_loaded, lb_crossing[] */
	LB_FRAME_INFER = 4,      /* lb_infer, images -> one answer an image: lb_result, output, boundary tensors */
	LB_FRAME_TIME = 5,       /* lb_time, one image -> lb_time, uint64 total_ns[], invoke_ns[], noop_ns[] */
	LB_FRAME_STATS = 6,      /* () -> lb_stats */
	LB_FRAME_QUIT = 7,       /* () -> (), then the agent exits */
	LB_FRAME_DEVICE_KEY = 8, /* () -> LB_SEALED_KEY_BYTES: the TA's public key (lb_sealed.h) */
	/* lb_train_begin, lb_dropout[] (lb_training.h) of public ops -> lb_train_begun; an earlier training ends */
	LB_FRAME_TRAIN_BEGIN = 9,
	/* lb_train_batch, images, uint32 labels[] -> lb_trained, crossings, boundary gradients, gradients */
	LB_FRAME_TRAIN_BATCH = 10,
	/* () -> lb_exported, public file, hidden part sealed to its owner, as tuned; the training ends */
	LB_FRAME_TRAIN_EXPORT = 11,
};

enum lb_agent_error {
	LB_AGENT_PROTOCOL = 1,   /* a frame that breaks the rules above */
	LB_AGENT_STATE = 2,      /* nothing is loaded */
	LB_AGENT_MODEL = 3,      /* the public file is wrong; detail: enum lb_error */
	LB_AGENT_MEMORY = 4,     /* the normal world is out of memory */
	LB_AGENT_TEE_MEMORY = 5, /* the secure world is */
	LB_AGENT_TEE_DEAD = 6,   /* the secure world is gone */
	LB_AGENT_TEE = 7,        /* any other refusal of the secure world; detail: its TEEC_Result */
	LB_AGENT_SEALED =
		8, /* the model inside the sealed file is wrong or another deployment's; detail: enum lb_error */
	LB_AGENT_REFUSED = 9,   /* the TA refused the sealed file; detail: enum lb_sealed_error */
	LB_AGENT_SLICES = 10,   /* the sealed slices are no such file, or the TA refused one; detail: its index */
	LB_AGENT_TRAINING = 11, /* the deployment cannot be trained; detail: enum lb_error, or 0 */
};

struct lb_frame {
	uint32_t magic;
	uint16_t version;
	uint16_t type;
	uint32_t request; /* chosen by the host, repeated in the answer */
	uint32_t bytes;
};

/* Then the text, not terminated. */
struct lb_failure {
	uint32_t code; /* enum lb_agent_error */
	uint32_t detail;
};

struct lb_hello {
	uint32_t protocol_version;
	uint32_t model_version;
	uint32_t frame_max_bytes;
	uint32_t pid;
};

struct lb_load {
	uint32_t public_bytes;
	uint32_t sealed_bytes; /* 0: nothing is hidden */
	uint32_t slices_bytes; /* 0: no filter comes in slices */
};

struct lb_loaded {
	uint32_t input_rank;
	uint32_t input_dims[4]; /* unused ones 1 */
	uint32_t n_classes;
	uint32_t policy; /* enum lb_policy: what the answers are */
	uint32_t n_crossings;
};

/* A tensor that crosses the boundary in every query; in the order of crossing. The answer itself is not among them. */
struct lb_crossing {
	uint32_t step;     /* segment of the public file */
	uint32_t from_tee; /* 0: into the secure world, 1: out of it */
	uint32_t index;    /* among the step's inputs or outputs */
	uint32_t rank;
	uint32_t dims[4];
	uint32_t dtype; /* enum lb_dtype; int8 of rank 3 is sent as (H,W,C) */
	float scale;    /* what one step of int8 stands for; else 0 */
};

struct lb_infer {
	uint32_t n_images;
	uint32_t boundary; /* 1: return the tensors that crossed, too */
};

struct lb_result {
	uint32_t output_bytes; /* float[n_classes], or one uint32 for LB_POLICY_LABEL */
	uint32_t boundary_bytes;
};

enum lb_clock {
	LB_CLOCK_MONOTONIC = 1,
	LB_CLOCK_PROCESS_CPU = 2, /* of the agent, its time in the secure world included */
};

struct lb_time {
	uint32_t rounds;   /* 1 .. LB_MAX_ROUNDS */
	uint32_t noops;    /* 0 .. LB_MAX_ROUNDS; answered with 0 when nothing is sealed */
	uint32_t clock;    /* enum lb_clock */
	uint32_t reserved; /* 0 */
};

struct lb_stats {
	uint64_t switches_per_query; /* in the last one; before the first, at least so many */
	uint64_t bytes_to_tee;       /* per query, slices included, as is the next */
	uint64_t bytes_from_tee;
	uint64_t ree_bytes;
	uint64_t tee_peak_bytes;
	uint64_t tee_limit_bytes; /* 0: not known to the agent */
	uint64_t shared_bytes;    /* of memory that both worlds see while queries run: the blocks in and out */
	uint64_t unseal_ns;       /* what the TA took for the sealed model, on LB_CLOCK_MONOTONIC */
	uint64_t unseal_cpu_ns;   /* the same on LB_CLOCK_PROCESS_CPU */
};

struct lb_train_begin {
	float learning_rate;
	float momentum; /* as of PyTorch's SGD, as is the next */
	float weight_decay;
	uint32_t seed; /* of the dropouts */
	uint32_t n_dropouts;
};

struct lb_train_begun {
	uint32_t boundary_bytes; /* of the boundary's gradients for one image */
	uint32_t gradient_bytes; /* of the public weights */
	uint64_t ree_bytes;      /* memory that training takes, in either world */
	uint64_t tee_bytes;
};

struct lb_train_batch {
	uint32_t n_images;
	uint32_t update;    /* 0: compute gradients and forget them */
	uint32_t crossings; /* 1: return the tensors that cross, image by image, as lb_crossing[] lists them */
	/* 1: return their gradients, likewise. Zeros for what the TEE takes first when it does not let that gradient out. */
	uint32_t boundary;
	uint32_t
		gradients; /* 1: return those of the public weights, summed over the images, as the file's weights lie */
	uint32_t clock;    /* enum lb_clock */
};

struct lb_trained {
	uint64_t total_ns; /* of the whole step */
	uint64_t invoke_ns;
};

struct lb_exported {
	uint32_t public_bytes;
	uint32_t sealed_bytes; /* 0: nothing is hidden */
};

#endif
