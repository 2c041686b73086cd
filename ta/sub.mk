# What the TA is made of, for OP-TEE's dev kit. Kernels and runtime are the files that the normal world runs.
lb-kernels := $(sort $(notdir $(wildcard $(CURDIR)/kernels/*.c)))
lb-runtime := $(sort $(notdir $(wildcard $(CURDIR)/runtime/*.c)))
lb-ta := $(sort $(notdir $(wildcard $(CURDIR)/*.c)))

lb-streaming := $(sort $(patsubst $(CURDIR)/%,%,$(wildcard $(CURDIR)/streaming/*.c $(CURDIR)/streaming/armv8/*.c)))

global-incdirs-y += include kernels runtime streaming .
srcs-y += $(lb-ta) $(addprefix runtime/,$(lb-runtime)) $(addprefix kernels/,$(lb-kernels)) $(lb-streaming)

# The cipher of sealed slices: OpenSSL's object files in an archive.
libdirs += $(LB_SLICE_CIPHER)
libnames += lbcipher
libdeps += $(LB_SLICE_CIPHER)/liblbcipher.a

global-cppflags-y += $(if $(LB_TA_DATA_SIZE),-DTA_DATA_SIZE=$(LB_TA_DATA_SIZE))
global-cppflags-y += $(if $(LB_TA_STACK_SIZE),-DTA_STACK_SIZE=$(LB_TA_STACK_SIZE))

# The kit's own warnings that our style does not share: exact comparisons with 0 are meant, enums need no default.
cflags-y += -Wno-float-equal -Wno-switch-default

# The kit's -Os -mstrict-align makes GCC load vectors byte by byte. Later flags win.
define lb-fast
cflags-$(1)-y += -O3 -mno-strict-align -mcpu=cortex-a53 -ffp-contract=fast
endef
$(foreach f,$(addprefix runtime/,$(lb-runtime)) $(addprefix kernels/,$(lb-kernels)),$(eval $(call lb-fast,$(f))))
