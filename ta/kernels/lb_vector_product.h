/* Products of eight lanes with eight lanes, beside lb_vector.h's with one float. Internal to the kernels. */
#ifndef LB_VECTOR_PRODUCT_H
#define LB_VECTOR_PRODUCT_H

#include "lb_vector.h"

/*
 * LB_FMA8_LANES(sum, a, b)   sum += a * b, lane by lane
 * LB_TOTAL8(total, v)        total = the sum of v's lanes, a float
 */
#if defined(LB_NEON)

#define LB_FMA8_LANES(sum, a, b)                                                                                       \
	do {                                                                                                           \
		(sum).low = vfmaq_f32((sum).low, (a).low, (b).low);                                                    \
		(sum).high = vfmaq_f32((sum).high, (a).high, (b).high);                                                \
	} while (0)
#define LB_TOTAL8(total, v) ((total) = vaddvq_f32(vaddq_f32((v).low, (v).high)))

#else

#if defined(LB_VECTOR)
#define LB_FMA8_LANES(sum, a, b) ((sum) += (a) * (b))
#else
#define LB_FMA8_LANES(sum, a, b)                                                                                       \
	do {                                                                                                           \
		for (size_t lb_i = 0; lb_i < LB_V; lb_i++)                                                             \
			(sum).lane[lb_i] += (a).lane[lb_i] * (b).lane[lb_i];                                           \
	} while (0)
#endif
#define LB_TOTAL8(total, v)                                                                                            \
	do {                                                                                                           \
		float lb_lanes[LB_V];                                                                                  \
                                                                                                                       \
		LB_STORE8(lb_lanes, v);                                                                                \
		(total) = ((lb_lanes[0] + lb_lanes[4]) + (lb_lanes[1] + lb_lanes[5])) +                                \
			  ((lb_lanes[2] + lb_lanes[6]) + (lb_lanes[3] + lb_lanes[7]));                                 \
	} while (0)

#endif

#endif
