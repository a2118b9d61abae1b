/* Traffic control; see tc.h. */
#include "vmm/oci/tc.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"

#define INGRESS 0xffff0000U

struct request {
	struct nlmsghdr head;
	struct tcmsg tc;
	char attributes[256]; /* more than the largest has */
};

/* Adds an attribute, of len bytes; returns it, so that tc_end can make it one that holds those behind it. */
static struct rtattr *add(struct request *r, unsigned short type, const void *data, size_t len)
{
	struct rtattr *a = (struct rtattr *)((char *)r + NLMSG_ALIGN(r->head.nlmsg_len));

	a->rta_type = type;
	a->rta_len = (unsigned short)RTA_LENGTH(len);
	if (len)
		memcpy(RTA_DATA(a), data, len);
	r->head.nlmsg_len = NLMSG_ALIGN(r->head.nlmsg_len) + RTA_ALIGN(a->rta_len);
	return a;
}

static void end(const struct request *r, struct rtattr *a)
{
	a->rta_len = (unsigned short)((const char *)r + r->head.nlmsg_len - (const char *)a);
}

static void begin(struct request *r, unsigned short type, unsigned short flags, int interface)
{
	*r = (struct request){
		.head = { .nlmsg_len = NLMSG_LENGTH(sizeof(r->tc)),
			  .nlmsg_type = type,
			  .nlmsg_flags = (unsigned short)(NLM_F_REQUEST | NLM_F_ACK | flags) },
		.tc = { .tcm_family = AF_UNSPEC, .tcm_ifindex = interface },
	};
}

/* Returns what the kernel answers: 0 or -errno. */
static int ask(int sock, const struct request *r)
{
	struct {
		struct nlmsghdr head;
		struct nlmsgerr error;
		char more[1024];
	} answer;
	ssize_t n;

	if (send(sock, r, r->head.nlmsg_len, 0) < 0)
		return -errno;
	n = recv(sock, &answer, sizeof(answer), 0); /* the kernel has answered when send returns */
	if (n < 0)
		return -errno;
	if (n < (ssize_t)(sizeof(answer.head) + sizeof(answer.error)) || answer.head.nlmsg_type != NLMSG_ERROR)
		return -EPROTO;
	return answer.error.error;
}

static int redirect(int sock, int from, int to)
{
	const struct tc_mirred mirred = { .action = TC_ACT_STOLEN,
					  .eaction = TCA_EGRESS_REDIR,
					  .ifindex = (unsigned)to };
	struct rtattr *options, *acts, *act, *own;
	struct request r;

	begin(&r, RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, from);
	r.tc.tcm_parent = INGRESS;
	r.tc.tcm_info = TC_H_MAKE(1U << 16, htons(ETH_P_ALL));
	add(&r, TCA_KIND, "matchall", sizeof("matchall"));
	options = add(&r, TCA_OPTIONS, NULL, 0);
	acts = add(&r, TCA_MATCHALL_ACT, NULL, 0);
	act = add(&r, 1, NULL, 0); /* the first action */
	add(&r, TCA_ACT_KIND, "mirred", sizeof("mirred"));
	own = add(&r, TCA_ACT_OPTIONS, NULL, 0);
	add(&r, TCA_MIRRED_PARMS, &mirred, sizeof(mirred));
	end(&r, own);
	end(&r, act);
	end(&r, acts);
	end(&r, options);
	return ask(sock, &r);
}

int tc_redirect(int from, int to, struct err *e)
{
	MF_CLOSE int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	struct request r;
	int ret;

	if (sock < 0)
		return err_sys(e, "open a netlink socket");
	begin(&r, RTM_DELQDISC, 0, from);
	r.tc.tcm_parent = TC_H_INGRESS;
	r.tc.tcm_handle = INGRESS;
	(void)ask(sock, &r); /* most have none */
	begin(&r, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, from);
	r.tc.tcm_parent = TC_H_INGRESS;
	r.tc.tcm_handle = INGRESS;
	add(&r, TCA_KIND, "ingress", sizeof("ingress"));
	ret = ask(sock, &r);
	if (ret == 0)
		ret = redirect(sock, from, to);
	return ret < 0 ? err_neg(e, ret,
				 "redirect its frames (sch_ingress, cls_matchall and act_mirred of Linux do that)") :
			 0;
}
