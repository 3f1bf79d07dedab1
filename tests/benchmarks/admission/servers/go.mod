module slicewise.io/benchmark

go 1.26
