/* `mayfly oci`, also as mayfly-oci: a runtime for container engines (OCI runtime-spec 1.1). */
#ifndef MF_CMD_OCI_H
#define MF_CMD_OCI_H

struct cli_usage;

int oci_command(int argc, char **argv);
extern const struct cli_usage oci_usage;

#endif
