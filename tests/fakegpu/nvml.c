/* What copycost asks of libnvidia-ml, for a device that is made up. The variable FAKE_NVML has the clock in MHz, the
   temperature in °C, the bits of the active reasons, and after how many readings the counter of power grows, or 0. The
   device uses 40 W when idle, and a joule for each byte of the file FAKE_ENERGY, to which it adds one for each kernel. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

typedef struct {
    unsigned fieldId, scopeId;
    long long timestamp, latencyUsec;
    int valueType, nvmlReturn;
    unsigned long long value;
} Field;

static unsigned clock_mhz, temperature, reasons, period, readings;

int nvmlInit_v2(void) {
    const char *state = getenv("FAKE_NVML");
    if (!state || sscanf(state, "%u %u %u %u", &clock_mhz, &temperature, &reasons, &period) != 4) return 9;
    return 0;
}
int nvmlInitWithFlags(unsigned flags) { return nvmlInit_v2(); }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    *device = &clock_mhz;
    return strcmp(uuid, "GPU-fake") ? 6 : 0;
}
int nvmlDeviceGetClockInfo(void *device, int type, unsigned *value) { *value = clock_mhz; return 0; }
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *value) { *value = temperature; return temperature ? 0 : 3; }
int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *value) { *value = reasons; return 0; }
int nvmlDeviceGetMemoryInfo(void *device, unsigned long long *value) {
    value[0] = 2048ull << 20; value[1] = 1100ull << 20; value[2] = 948ull << 20;
    return 0;
}
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *value) {
    struct stat kernels;
    struct timespec now;
    const char *path = getenv("FAKE_ENERGY");
    if (!path || stat(path, &kernels)) return 3;
    clock_gettime(CLOCK_MONOTONIC, &now);
    *value = 40000ull * now.tv_sec + now.tv_nsec / 25000 + 1000ull * kernels.st_size;
    return 0;
}
int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(void *part, void **device) { return 2; }
int nvmlDeviceGetFieldValues(void *device, int count, Field *fields) {
    readings++;
    for (int i = 0; i < count; i++) {
        fields[i].nvmlReturn = 0;
        fields[i].value = i == 0 && period ? readings / period : 0;
    }
    return 0;
}
