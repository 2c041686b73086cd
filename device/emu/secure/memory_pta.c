#include "emu_memory_pta.h"
#include "secure_world.h"

static uint32_t saturate(uint64_t bytes)
{
	return bytes > UINT32_MAX ? UINT32_MAX : (uint32_t)bytes;
}

TEE_Result memory_pta_invoke(void *session, uint32_t command, uint32_t types, TEE_Param params[4])
{
	(void)session;
	if (command != EMU_MEMORY_CMD_USAGE)
		return TEE_ERROR_NOT_SUPPORTED;
	if (types != TEE_PARAM_TYPES(TEE_PARAM_TYPE_VALUE_OUTPUT, TEE_PARAM_TYPE_VALUE_OUTPUT, TEE_PARAM_TYPE_NONE,
				     TEE_PARAM_TYPE_NONE))
		return TEE_ERROR_BAD_PARAMETERS;
	params[0].value.a = saturate(memory_limit());
	params[0].value.b = saturate(memory_now());
	params[1].value.a = saturate(memory_peak());
	params[1].value.b = saturate(memory_fixed());
	return TEE_SUCCESS;
}
