// Package clients runs other people's clients and servers, unmodified, against the real program:
// SDKs, wrangler, an ACME client, curl, dig, load generators, a browser, origin servers. It is a
// module of its own so that none of them is ever linked into Selvage.
//
// make test-clients builds the program and runs it; SELVAGE_BIN names the program to test and
// SELVAGE_RACE_BIN one that was built with the race detector.
package clients
