/* Publishes an FLV file with librtmp at the speed of its stamps: librtmp_publish FILE URL */

#include <librtmp/log.h>
#include <librtmp/rtmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static uint32_t be24(const uint8_t *p) { return (uint32_t)p[0] << 16 | p[1] << 8 | p[2]; }

static int64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int fail(const char *what) {
    fprintf(stderr, "%s\n", what);
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 3) return fail("usage: librtmp_publish FILE URL");
    FILE *file = fopen(argv[1], "rb");
    uint8_t header[13];
    if (!file || fread(header, sizeof header, 1, file) != 1) return fail("no FLV header");

    RTMP *rtmp = RTMP_Alloc();
    RTMP_Init(rtmp);
    RTMP_LogSetLevel(RTMP_LOGWARNING);
    if (!RTMP_SetupURL(rtmp, argv[2])) return fail("bad URL");
    RTMP_EnableWrite(rtmp);
    if (!RTMP_Connect(rtmp, NULL)) return fail("connect refused");
    if (!RTMP_ConnectStream(rtmp, 0)) return fail("publish refused");

    int64_t start = now_ms();
    uint8_t tag[11];
    while (fread(tag, sizeof tag, 1, file) == 1) {
        uint32_t size = be24(tag + 1);
        int64_t stamp = (int64_t)tag[7] << 24 | be24(tag + 4);
        uint8_t *whole = malloc(sizeof tag + size + 4);
        for (size_t i = 0; i < sizeof tag; i++) whole[i] = tag[i];
        if (fread(whole + sizeof tag, size + 4, 1, file) != 1) return fail("FLV ends inside a tag");
        int64_t wait = start + stamp - now_ms();
        if (wait > 0) {
            struct timespec pause = {wait / 1000, wait % 1000 * 1000000};
            nanosleep(&pause, NULL);
        }
        if (RTMP_Write(rtmp, (const char *)whole, (int)(sizeof tag + size + 4)) <= 0) return fail("connection lost");
        free(whole);
    }
    RTMP_Close(rtmp);
    RTMP_Free(rtmp);
    return 0;
}
