module selvage/bench

go 1.26
