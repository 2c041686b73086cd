/*
 * The part of the GlobalPlatform TEE Internal Core API (1.3) that the TA uses, for the emulated secure world. Names,
 * signatures and values are the specification's, so that the same TA source compiles with OP-TEE's dev kit.
 */
#ifndef EMU_TEE_INTERNAL_API_H
#define EMU_TEE_INTERNAL_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tee_common.h"

typedef uint32_t TEE_Result;
typedef struct emu_uuid TEE_UUID;

#define TEE_SUCCESS EMU_SUCCESS
#define TEE_ERROR_CORRUPT_OBJECT EMU_ERROR_CORRUPT_OBJECT
#define TEE_ERROR_GENERIC EMU_ERROR_GENERIC
#define TEE_ERROR_ACCESS_DENIED EMU_ERROR_ACCESS_DENIED
#define TEE_ERROR_ACCESS_CONFLICT EMU_ERROR_ACCESS_CONFLICT
#define TEE_ERROR_BAD_FORMAT EMU_ERROR_BAD_FORMAT
#define TEE_ERROR_BAD_PARAMETERS EMU_ERROR_BAD_PARAMETERS
#define TEE_ERROR_BAD_STATE EMU_ERROR_BAD_STATE
#define TEE_ERROR_ITEM_NOT_FOUND EMU_ERROR_ITEM_NOT_FOUND
#define TEE_ERROR_NOT_SUPPORTED EMU_ERROR_NOT_SUPPORTED
#define TEE_ERROR_OUT_OF_MEMORY EMU_ERROR_OUT_OF_MEMORY
#define TEE_ERROR_SECURITY EMU_ERROR_SECURITY
#define TEE_ERROR_SHORT_BUFFER EMU_ERROR_SHORT_BUFFER
#define TEE_ERROR_STORAGE_NO_SPACE EMU_ERROR_STORAGE_NO_SPACE
#define TEE_ERROR_MAC_INVALID EMU_ERROR_MAC_INVALID

#define TEE_PARAM_TYPE_NONE EMU_PARAM_NONE
#define TEE_PARAM_TYPE_VALUE_INPUT EMU_PARAM_VALUE_INPUT
#define TEE_PARAM_TYPE_VALUE_OUTPUT EMU_PARAM_VALUE_OUTPUT
#define TEE_PARAM_TYPE_VALUE_INOUT EMU_PARAM_VALUE_INOUT
#define TEE_PARAM_TYPE_MEMREF_INPUT EMU_PARAM_MEMREF_INPUT
#define TEE_PARAM_TYPE_MEMREF_OUTPUT EMU_PARAM_MEMREF_OUTPUT
#define TEE_PARAM_TYPE_MEMREF_INOUT EMU_PARAM_MEMREF_INOUT
#define TEE_PARAM_TYPES EMU_PARAM_TYPES
#define TEE_PARAM_TYPE_GET EMU_PARAM_TYPE_GET

#define TA_FLAG_SINGLE_INSTANCE 0x4u
#define TA_FLAG_MULTI_SESSION 0x8u

typedef union {
	struct {
		void *buffer;
		size_t size;
	} memref;
	struct {
		uint32_t a, b;
	} value;
} TEE_Param;

typedef struct {
	uint32_t seconds;
	uint32_t millis;
} TEE_Time;

typedef struct emu_object *TEE_ObjectHandle;
typedef struct emu_operation *TEE_OperationHandle;
#define TEE_HANDLE_NULL NULL

typedef struct {
	uint32_t objectType;
	uint32_t objectSize;
	uint32_t maxObjectSize;
	uint32_t objectUsage;
	size_t dataSize;
	size_t dataPosition;
	uint32_t handleFlags;
} TEE_ObjectInfo;

typedef struct {
	uint32_t attributeID;
	union {
		struct {
			void *buffer;
			size_t length;
		} ref;
		struct {
			uint32_t a, b;
		} value;
	} content;
} TEE_Attribute;

#define TEE_STORAGE_PRIVATE 0x00000001u
#define TEE_DATA_FLAG_ACCESS_READ 0x00000001u
#define TEE_DATA_FLAG_ACCESS_WRITE 0x00000002u
#define TEE_DATA_FLAG_ACCESS_WRITE_META 0x00000004u
#define TEE_DATA_FLAG_OVERWRITE 0x00000400u
#define TEE_TYPE_GENERIC_SECRET 0xA0000000u
#define TEE_TYPE_HMAC_SHA256 0xA0000004u
#define TEE_TYPE_AES 0xA0000010u
#define TEE_TYPE_DATA 0xA00000BFu
#define TEE_TYPE_ECDH_KEYPAIR 0xA1000042u
#define TEE_HANDLE_FLAG_PERSISTENT 0x00010000u
#define TEE_HANDLE_FLAG_INITIALIZED 0x00020000u

#define TEE_USAGE_EXTRACTABLE 0x00000001u
#define TEE_USAGE_ENCRYPT 0x00000002u
#define TEE_USAGE_DECRYPT 0x00000004u
#define TEE_USAGE_MAC 0x00000008u
#define TEE_USAGE_DERIVE 0x00000040u

#define TEE_ATTR_SECRET_VALUE 0xC0000000u
#define TEE_ATTR_ECC_PUBLIC_VALUE_X 0xD0000141u
#define TEE_ATTR_ECC_PUBLIC_VALUE_Y 0xD0000241u
#define TEE_ATTR_ECC_PRIVATE_VALUE 0xC0000341u
#define TEE_ATTR_ECC_CURVE 0xF0000441u
#define TEE_ECC_CURVE_NIST_P256 0x00000003u

#define TEE_ALG_HMAC_SHA256 0x30000004u
#define TEE_ALG_AES_GCM 0x40000810u
#define TEE_ALG_SHA256 0x50000004u
#define TEE_ALG_ECDH_DERIVE_SHARED_SECRET 0x80000042u

#define TEE_MODE_ENCRYPT 0u
#define TEE_MODE_DECRYPT 1u
#define TEE_MODE_MAC 4u
#define TEE_MODE_DIGEST 5u
#define TEE_MODE_DERIVE 6u

#define TEE_MALLOC_FILL_ZERO 0x00000000u

void *TEE_Malloc(size_t size, uint32_t hint);
void *TEE_Realloc(void *buffer, size_t newSize);
void TEE_Free(void *buffer);
void *TEE_MemMove(void *dest, const void *src, size_t size);
int32_t TEE_MemCompare(const void *buffer1, const void *buffer2, size_t size);
void TEE_MemFill(void *buffer, uint8_t x, size_t size);

void TEE_GetSystemTime(TEE_Time *time);
void TEE_GenerateRandom(void *randomBuffer, size_t randomBufferLen);
void TEE_Panic(TEE_Result panicCode) __attribute__((noreturn));

TEE_Result TEE_OpenPersistentObject(uint32_t storageID, const void *objectID, size_t objectIDLen, uint32_t flags,
				    TEE_ObjectHandle *object);
TEE_Result TEE_CreatePersistentObject(uint32_t storageID, const void *objectID, size_t objectIDLen, uint32_t flags,
				      TEE_ObjectHandle attributes, const void *initialData, size_t initialDataLen,
				      TEE_ObjectHandle *object);
TEE_Result TEE_GetObjectInfo1(TEE_ObjectHandle object, TEE_ObjectInfo *objectInfo);
TEE_Result TEE_ReadObjectData(TEE_ObjectHandle object, void *buffer, size_t size, size_t *count);
void TEE_CloseObject(TEE_ObjectHandle object);

TEE_Result TEE_AllocateTransientObject(uint32_t objectType, uint32_t maxObjectSize, TEE_ObjectHandle *object);
void TEE_FreeTransientObject(TEE_ObjectHandle object);
TEE_Result TEE_PopulateTransientObject(TEE_ObjectHandle object, const TEE_Attribute *attrs, uint32_t attrCount);
void TEE_InitRefAttribute(TEE_Attribute *attr, uint32_t attributeID, void *buffer, size_t length);
void TEE_InitValueAttribute(TEE_Attribute *attr, uint32_t attributeID, uint32_t a, uint32_t b);
TEE_Result TEE_GetObjectBufferAttribute(TEE_ObjectHandle object, uint32_t attributeID, void *buffer, size_t *size);
TEE_Result TEE_RestrictObjectUsage1(TEE_ObjectHandle object, uint32_t objectUsage);
TEE_Result TEE_GenerateKey(TEE_ObjectHandle object, uint32_t keySize, const TEE_Attribute *params, uint32_t paramCount);

TEE_Result TEE_AllocateOperation(TEE_OperationHandle *operation, uint32_t algorithm, uint32_t mode,
				 uint32_t maxKeySize);
void TEE_FreeOperation(TEE_OperationHandle operation);
TEE_Result TEE_SetOperationKey(TEE_OperationHandle operation, TEE_ObjectHandle key);
void TEE_DigestUpdate(TEE_OperationHandle operation, const void *chunk, size_t chunkSize);
TEE_Result TEE_DigestDoFinal(TEE_OperationHandle operation, const void *chunk, size_t chunkLen, void *hash,
			     size_t *hashLen);
void TEE_MACInit(TEE_OperationHandle operation, const void *IV, size_t IVLen);
void TEE_MACUpdate(TEE_OperationHandle operation, const void *chunk, size_t chunkSize);
TEE_Result TEE_MACComputeFinal(TEE_OperationHandle operation, const void *message, size_t messageLen, void *mac,
			       size_t *macLen);
TEE_Result TEE_AEInit(TEE_OperationHandle operation, const void *nonce, size_t nonceLen, uint32_t tagLen, size_t AADLen,
		      size_t payloadLen);
void TEE_AEUpdateAAD(TEE_OperationHandle operation, const void *AADdata, size_t AADdataLen);
TEE_Result TEE_AEEncryptFinal(TEE_OperationHandle operation, const void *srcData, size_t srcLen, void *destData,
			      size_t *destLen, void *tag, size_t *tagLen);
TEE_Result TEE_AEDecryptFinal(TEE_OperationHandle operation, const void *srcData, size_t srcLen, void *destData,
			      size_t *destLen, void *tag, size_t tagLen);
void TEE_DeriveKey(TEE_OperationHandle operation, const TEE_Attribute *params, uint32_t paramCount,
		   TEE_ObjectHandle derivedKey);

/* What a TA provides. */
TEE_Result TA_CreateEntryPoint(void);
void TA_DestroyEntryPoint(void);
TEE_Result TA_OpenSessionEntryPoint(uint32_t paramTypes, TEE_Param params[4], void **sessionContext);
void TA_CloseSessionEntryPoint(void *sessionContext);
TEE_Result TA_InvokeCommandEntryPoint(void *sessionContext, uint32_t commandID, uint32_t paramTypes,
				      TEE_Param params[4]);

#endif
