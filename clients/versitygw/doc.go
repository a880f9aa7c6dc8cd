// Package versitygw names the S3 server that keeps the content of a volume in TestVolumes. It is a module of
// its own: its many dependencies are none of the tests'.
package versitygw
