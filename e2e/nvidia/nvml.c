/* A small libnvidia-ml.so.1 that knows the GPUs of a text file and nothing else.

   MOCK_NVML names the file. Each line is a word and numbers, and belongs to the GPU above it:

       gpu MEMORY_MIB MAJOR MINOR ARCHITECTURE MIG_CAPABLE MIG_ENABLED NAME...
       profile ID MEMORY_MIB MULTIPROCESSORS SLICES MEDIA INSTANCES      a MIG profile that the GPU has
       mig ID                                                            a MIG instance of that profile

   ID is NVML's number of the profile (NVML_GPU_INSTANCE_PROFILE_...). Each instance has one compute instance of its
   whole size. MEDIA is 1 where the profile comes with decoders and the like. Types come from nvml.h of the go-nvml module.
   A file that cannot be read ends the process with status 97. */
#define NVML_NO_UNVERSIONED_FUNC_DEFS
#include "nvml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_GPUS 16
#define MAX_PROFILES 16
#define MAX_INSTANCES 8
/* What go-nvlib walks: NVML_COMPUTE_INSTANCE_PROFILE_1_SLICE .. NVML_COMPUTE_INSTANCE_PROFILE_6_SLICE. */
static const unsigned compute_slices[] = {1, 2, 3, 4, 7, 8, 6};
#define COMPUTE_PROFILES (sizeof compute_slices / sizeof *compute_slices)

struct device {
  int index;
  char uuid[64];
  struct device *parent; /* of a MIG instance; NULL for a GPU */
  nvmlGpuInstanceProfileInfo_t *profile;
  /* Of a GPU alone. */
  char name[96];
  unsigned long long memory;
  int major, minor, architecture, capable, enabled, profiles, instances;
  nvmlGpuInstanceProfileInfo_t profile_list[MAX_PROFILES];
  struct device *instance_list[MAX_INSTANCES];
};

static struct device *gpus[MAX_GPUS];
static int gpu_count;

static void fail(const char *line) {
  fprintf(stderr, "mock nvml: cannot use: %s\n", line);
  exit(97);
}

static nvmlGpuInstanceProfileInfo_t *find_profile(struct device *gpu, unsigned id) {
  for (int i = 0; i < gpu->profiles; i++)
    if (gpu->profile_list[i].id == id) return &gpu->profile_list[i];
  return NULL;
}

static struct device *new_device(int index) {
  struct device *device = calloc(1, sizeof *device);
  if (!device) fail("out of memory");
  device->index = index;
  return device;
}

static void read_line(char *line) {
  struct device *gpu = gpu_count ? gpus[gpu_count - 1] : NULL;
  int name = 0;
  unsigned id, media;
  nvmlGpuInstanceProfileInfo_t profile = {0};
  struct device read = {0};
  if (sscanf(line, "gpu %llu %d %d %d %d %d %n", &read.memory, &read.major, &read.minor, &read.architecture,
             &read.capable, &read.enabled, &name) == 6 && name && gpu_count < MAX_GPUS) {
    gpu = new_device(gpu_count);
    *gpu = read;
    gpu->index = gpu_count;
    snprintf(gpu->name, sizeof gpu->name, "%s", line + name);
    snprintf(gpu->uuid, sizeof gpu->uuid, "GPU-00000000-0000-4000-8000-%012d", gpu->index);
    gpus[gpu_count++] = gpu;
  } else if (gpu && gpu->profiles < MAX_PROFILES &&
             sscanf(line, "profile %u %llu %u %u %u %u", &profile.id, &profile.memorySizeMB,
                    &profile.multiprocessorCount, &profile.sliceCount, &media, &profile.instanceCount) == 6) {
    profile.copyEngineCount = profile.sliceCount;
    profile.decoderCount = profile.jpegCount = profile.ofaCount = media;
    gpu->profile_list[gpu->profiles++] = profile;
  } else if (gpu && gpu->instances < MAX_INSTANCES && sscanf(line, "mig %u", &id) == 1 && find_profile(gpu, id)) {
    struct device *instance = new_device(gpu->instances);
    instance->parent = gpu;
    instance->profile = find_profile(gpu, id);
    snprintf(instance->uuid, sizeof instance->uuid, "MIG-00000000-%04d-5000-8000-%012d", gpu->index, instance->index);
    gpu->instance_list[gpu->instances++] = instance;
  } else {
    fail(line);
  }
}

static struct device *of(nvmlDevice_t handle) { return (struct device *)handle.handle; }
static nvmlDevice_t handle(struct device *device) { return (nvmlDevice_t){(void *)device}; }
static struct device *gpu_of(struct device *device) { return device->parent ? device->parent : device; }

nvmlReturn_t nvmlInit_v2(void) {
  const char *path = getenv("MOCK_NVML");
  char line[256];
  FILE *file = path ? fopen(path, "r") : NULL;
  if (!file) fail("MOCK_NVML names no file");
  for (gpu_count = 0; fgets(line, sizeof line, file);) {
    line[strcspn(line, "\n")] = 0;
    read_line(line);
  }
  fclose(file);
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlInitWithFlags(unsigned flags) { return (void)flags, nvmlInit_v2(); }
nvmlReturn_t nvmlShutdown(void) { return NVML_SUCCESS; }
const char *nvmlErrorString(nvmlReturn_t result) { return result ? "mock: not supported" : "success"; }

/* The machine. */

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned length) {
  snprintf(version, length, "570.172.08");
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version) {
  *version = 12080;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version) { return nvmlSystemGetCudaDriverVersion(version); }

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count) {
  *count = gpu_count;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device) {
  if ((int)index >= gpu_count) return NVML_ERROR_INVALID_ARGUMENT;
  *device = handle(gpus[index]);
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
  for (int i = 0; i < gpu_count; i++) {
    if (!strcmp(uuid, gpus[i]->uuid)) return *device = handle(gpus[i]), NVML_SUCCESS;
    for (int j = 0; j < gpus[i]->instances; j++)
      if (!strcmp(uuid, gpus[i]->instance_list[j]->uuid))
        return *device = handle(gpus[i]->instance_list[j]), NVML_SUCCESS;
  }
  return NVML_ERROR_NOT_FOUND;
}

/* One GPU, or one MIG instance. */

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned length) {
  snprintf(name, length, "%s", gpu_of(of(device))->name);
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned length) {
  snprintf(uuid, length, "%s", of(device)->uuid);
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned *index) {
  *index = of(device)->index;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned *number) {
  if (of(device)->parent) return NVML_ERROR_INVALID_ARGUMENT;
  return nvmlDeviceGetIndex(device, number);
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory) {
  struct device *it = of(device);
  memset(memory, 0, sizeof *memory);
  memory->total = memory->free = (it->parent ? it->profile->memorySizeMB : it->memory) << 20;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor) {
  *major = gpu_of(of(device))->major;
  *minor = gpu_of(of(device))->minor;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetArchitecture(nvmlDevice_t device, nvmlDeviceArchitecture_t *architecture) {
  *architecture = gpu_of(of(device))->architecture;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetBrand(nvmlDevice_t device, nvmlBrandType_t *brand) {
  (void)device;
  *brand = NVML_BRAND_NVIDIA;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci) {
  memset(pci, 0, sizeof *pci);
  pci->bus = 0x10 + gpu_of(of(device))->index;
  pci->pciDeviceId = 0x20B010DE;
  snprintf(pci->busId, sizeof pci->busId, "00000000:%02X:00.0", pci->bus);
  snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, "0000:%02X:00.0", pci->bus);
  return NVML_SUCCESS;
}

/* MIG. */

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned *current, unsigned *pending) {
  if (!of(device)->capable) return NVML_ERROR_NOT_SUPPORTED;
  *current = *pending = of(device)->enabled;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned *count) {
  *count = of(device)->capable ? MAX_INSTANCES : 0;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned index, nvmlDevice_t *instance) {
  if ((int)index >= of(device)->instances) return NVML_ERROR_NOT_FOUND;
  *instance = handle(of(device)->instance_list[index]);
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned *yes) {
  *yes = of(device)->parent != NULL;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t instance, nvmlDevice_t *device) {
  if (!of(instance)->parent) return NVML_ERROR_INVALID_ARGUMENT;
  *device = handle(of(instance)->parent);
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t instance, unsigned *id) {
  *id = of(instance)->index + 1;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t instance, unsigned *id) {
  (void)instance;
  *id = 0;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t instance, nvmlDeviceAttributes_t *attributes) {
  if (!of(instance)->parent) return NVML_ERROR_NOT_SUPPORTED;
  nvmlGpuInstanceProfileInfo_t *profile = of(instance)->profile;
  *attributes = (nvmlDeviceAttributes_t){
      .multiprocessorCount = profile->multiprocessorCount,
      .sharedCopyEngineCount = profile->copyEngineCount,
      .sharedDecoderCount = profile->decoderCount,
      .sharedEncoderCount = profile->encoderCount,
      .sharedJpegCount = profile->jpegCount,
      .sharedOfaCount = profile->ofaCount,
      .gpuInstanceSliceCount = profile->sliceCount,
      .computeInstanceSliceCount = profile->sliceCount,
      .memorySizeMB = profile->memorySizeMB,
  };
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfo(nvmlDevice_t device, unsigned id, nvmlGpuInstanceProfileInfo_t *info) {
  nvmlGpuInstanceProfileInfo_t *profile = find_profile(of(device), id);
  if (!profile) return NVML_ERROR_NOT_SUPPORTED;
  *info = *profile;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceById(nvmlDevice_t device, unsigned id, nvmlGpuInstance_t *instance) {
  if (id < 1 || (int)id > of(device)->instances) return NVML_ERROR_NOT_FOUND;
  instance->handle = (void *)of(device)->instance_list[id - 1];
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpuInstanceGetInfo(nvmlGpuInstance_t instance, nvmlGpuInstanceInfo_t *info) {
  struct device *it = (struct device *)instance.handle;
  memset(info, 0, sizeof *info);
  info->device = handle(it->parent);
  info->id = it->index + 1;
  info->profileId = it->profile->id;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpuInstanceGetComputeInstanceById(nvmlGpuInstance_t instance, unsigned id,
                                                   nvmlComputeInstance_t *compute) {
  if (id) return NVML_ERROR_NOT_FOUND;
  compute->handle = (void *)instance.handle;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpuInstanceGetComputeInstanceProfileInfo(nvmlGpuInstance_t instance, unsigned id, unsigned engine,
                                                          nvmlComputeInstanceProfileInfo_t *info) {
  unsigned slices = ((struct device *)instance.handle)->profile->sliceCount;
  if (engine || id >= COMPUTE_PROFILES || compute_slices[id] > slices) return NVML_ERROR_NOT_SUPPORTED;
  memset(info, 0, sizeof *info);
  info->id = id;
  info->sliceCount = compute_slices[id];
  info->instanceCount = slices / compute_slices[id];
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlComputeInstanceGetInfo_v2(nvmlComputeInstance_t compute, nvmlComputeInstanceInfo_t *info) {
  struct device *it = (struct device *)compute.handle;
  memset(info, 0, sizeof *info);
  info->device = handle(it->parent);
  info->gpuInstance.handle = (void *)it;
  while (info->profileId < COMPUTE_PROFILES && compute_slices[info->profileId] != it->profile->sliceCount)
    info->profileId++;
  return NVML_SUCCESS;
}

/* Health and topology: nothing ever happens, nothing is connected. */

nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *set) {
  static int any;
  set->handle = (void *)&any;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set) { return (void)set, NVML_SUCCESS; }

nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, unsigned long long *types) {
  (void)device;
  *types = nvmlEventTypeXidCriticalError;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long types, nvmlEventSet_t set) {
  (void)device, (void)types, (void)set;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *data, unsigned milliseconds) {
  (void)set, (void)data;
  usleep(milliseconds * 1000);
  return NVML_ERROR_TIMEOUT;
}

nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t device, unsigned link, nvmlEnableState_t *state) {
  (void)device, (void)link, (void)state;
  return NVML_ERROR_NOT_SUPPORTED;
}

nvmlReturn_t nvmlDeviceGetTopologyCommonAncestor(nvmlDevice_t one, nvmlDevice_t other, nvmlGpuTopologyLevel_t *level) {
  (void)one, (void)other;
  *level = NVML_TOPOLOGY_SYSTEM;
  return NVML_SUCCESS;
}
