/* Transient objects and attributes, of the types that the TA uses. */
#include <string.h>

#include "object.h"
#include "secure_world.h"

#define VALUE_BIT 0x20000000u  /* of an attribute's id: a value, no buffer */
#define PUBLIC_BIT 0x10000000u /* readable even without TEE_USAGE_EXTRACTABLE */

static const struct {
	uint32_t type, min_bits, max_bits, step_bits;
} kinds[] = {
	{TEE_TYPE_AES, 256, 256, 64},
	{TEE_TYPE_HMAC_SHA256, 192, 1024, 8},
	{TEE_TYPE_GENERIC_SECRET, 8, 1024, 8},
	{TEE_TYPE_ECDH_KEYPAIR, 256, 256, 1},
};

static int is_size(uint32_t type, uint32_t bits)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (kinds[i].type == type)
			return bits >= kinds[i].min_bits && bits <= kinds[i].max_bits && bits % kinds[i].step_bits == 0;
	return 0;
}

struct emu_object *object_new(uint32_t type)
{
	struct emu_object *object = TEE_Malloc(sizeof(*object), TEE_MALLOC_FILL_ZERO);

	if (object) {
		object->content.type = type;
		object->content.usage = 0xFFFFFFFFu;
		object->fd = -1;
	}
	return object;
}

const struct emu_attribute *object_attribute(const struct emu_content *content, uint32_t id)
{
	for (uint32_t i = 0; i < content->n_attributes; i++)
		if (content->attributes[i].id == id)
			return &content->attributes[i];
	return NULL;
}

int object_is_sound(const struct emu_content *content)
{
	static const uint32_t pair[] = {TEE_ATTR_ECC_PUBLIC_VALUE_X, TEE_ATTR_ECC_PUBLIC_VALUE_Y,
					TEE_ATTR_ECC_PRIVATE_VALUE};

	if (content->n_attributes > EMU_MAX_ATTRIBUTES)
		return 0;
	for (uint32_t i = 0; i < content->n_attributes; i++)
		if (content->attributes[i].bytes > EMU_MAX_ATTRIBUTE_BYTES)
			return 0;
	if (content->type == TEE_TYPE_DATA)
		return content->n_attributes == 0;
	if (content->type != TEE_TYPE_ECDH_KEYPAIR)
		return 0; /* nothing else is ever stored */
	for (size_t i = 0; i < 3; i++) {
		const struct emu_attribute *attribute = object_attribute(content, pair[i]);

		if (!attribute || attribute->bytes > 32)
			return 0;
	}
	return 1;
}

TEE_Result TEE_AllocateTransientObject(uint32_t objectType, uint32_t maxObjectSize, TEE_ObjectHandle *object)
{
	*object = TEE_HANDLE_NULL;
	if (!is_size(objectType, maxObjectSize))
		return TEE_ERROR_NOT_SUPPORTED;
	*object = object_new(objectType);
	if (!*object)
		return TEE_ERROR_OUT_OF_MEMORY;
	(*object)->content.max_bits = maxObjectSize;
	return TEE_SUCCESS;
}

void TEE_FreeTransientObject(TEE_ObjectHandle object)
{
	if (!object)
		return;
	if (object->handle_flags & TEE_HANDLE_FLAG_PERSISTENT)
		TEE_Panic(TEE_ERROR_BAD_PARAMETERS);
	TEE_CloseObject(object);
}

static TEE_Result add_attribute(struct emu_content *content, const TEE_Attribute *from)
{
	struct emu_attribute *to = &content->attributes[content->n_attributes];

	if (content->n_attributes == EMU_MAX_ATTRIBUTES || (from->attributeID & VALUE_BIT) ||
	    from->content.ref.length > EMU_MAX_ATTRIBUTE_BYTES)
		return TEE_ERROR_BAD_PARAMETERS;
	to->id = from->attributeID;
	to->bytes = (uint32_t)from->content.ref.length;
	memcpy(to->data, from->content.ref.buffer, to->bytes);
	content->n_attributes++;
	return TEE_SUCCESS;
}

/* Of secrets only: the TA makes no key pair from numbers of its own. */
TEE_Result TEE_PopulateTransientObject(TEE_ObjectHandle object, const TEE_Attribute *attrs, uint32_t attrCount)
{
	struct emu_content *content = &object->content;

	if ((object->handle_flags & (TEE_HANDLE_FLAG_PERSISTENT | TEE_HANDLE_FLAG_INITIALIZED)) || attrCount != 1 ||
	    attrs[0].attributeID != TEE_ATTR_SECRET_VALUE || content->type == TEE_TYPE_ECDH_KEYPAIR)
		TEE_Panic(TEE_ERROR_BAD_PARAMETERS);
	if (attrs[0].content.ref.length > EMU_MAX_ATTRIBUTE_BYTES ||
	    8 * attrs[0].content.ref.length > content->max_bits ||
	    !is_size(content->type, 8u * (uint32_t)attrs[0].content.ref.length) || add_attribute(content, &attrs[0]))
		return TEE_ERROR_BAD_PARAMETERS;
	content->bits = 8u * content->attributes[0].bytes;
	object->handle_flags |= TEE_HANDLE_FLAG_INITIALIZED;
	return TEE_SUCCESS;
}

void TEE_InitRefAttribute(TEE_Attribute *attr, uint32_t attributeID, void *buffer, size_t length)
{
	if (attributeID & VALUE_BIT)
		TEE_Panic(TEE_ERROR_BAD_PARAMETERS);
	attr->attributeID = attributeID;
	attr->content.ref.buffer = buffer;
	attr->content.ref.length = length;
}

void TEE_InitValueAttribute(TEE_Attribute *attr, uint32_t attributeID, uint32_t a, uint32_t b)
{
	if (!(attributeID & VALUE_BIT))
		TEE_Panic(TEE_ERROR_BAD_PARAMETERS);
	attr->attributeID = attributeID;
	attr->content.value.a = a;
	attr->content.value.b = b;
}

TEE_Result TEE_GetObjectBufferAttribute(TEE_ObjectHandle object, uint32_t attributeID, void *buffer, size_t *size)
{
	const struct emu_attribute *attribute = object_attribute(&object->content, attributeID);

	if (!(object->handle_flags & TEE_HANDLE_FLAG_INITIALIZED) || (attributeID & VALUE_BIT))
		TEE_Panic(TEE_ERROR_BAD_PARAMETERS);
	if (!(attributeID & PUBLIC_BIT) && !(object->content.usage & TEE_USAGE_EXTRACTABLE))
		TEE_Panic(TEE_ERROR_ACCESS_DENIED);
	if (!attribute)
		return TEE_ERROR_ITEM_NOT_FOUND;
	if (!buffer || *size < attribute->bytes) {
		*size = attribute->bytes;
		return TEE_ERROR_SHORT_BUFFER;
	}
	*size = attribute->bytes;
	memcpy(buffer, attribute->data, attribute->bytes);
	return TEE_SUCCESS;
}

TEE_Result TEE_RestrictObjectUsage1(TEE_ObjectHandle object, uint32_t objectUsage)
{
	object->content.usage &= objectUsage;
	return TEE_SUCCESS;
}

TEE_Result TEE_GenerateKey(TEE_ObjectHandle object, uint32_t keySize, const TEE_Attribute *params, uint32_t paramCount)
{
	struct emu_content *content = &object->content;

	if (content->type != TEE_TYPE_ECDH_KEYPAIR || keySize != content->max_bits || paramCount != 1 ||
	    params[0].attributeID != TEE_ATTR_ECC_CURVE || params[0].content.value.a != TEE_ECC_CURVE_NIST_P256 ||
	    (object->handle_flags & TEE_HANDLE_FLAG_INITIALIZED))
		TEE_Panic(TEE_ERROR_BAD_PARAMETERS);
	if (!crypto_make_p256(content))
		TEE_Panic(TEE_ERROR_GENERIC);
	content->bits = keySize;
	object->handle_flags |= TEE_HANDLE_FLAG_INITIALIZED;
	return TEE_SUCCESS;
}

TEE_Result TEE_GetObjectInfo1(TEE_ObjectHandle object, TEE_ObjectInfo *objectInfo)
{
	*objectInfo = (TEE_ObjectInfo){
		.objectType = object->content.type,
		.objectSize = object->content.bits,
		.maxObjectSize = object->content.max_bits,
		.objectUsage = object->content.usage,
		.dataSize = object->size,
		.dataPosition = object->position,
		.handleFlags = object->handle_flags,
	};
	return TEE_SUCCESS;
}
