// Command selvage is the whole edge cloud in one program.
package main

func main() {}
