variable "name" {
  type        = string
  description = "Name of the bucket."
}

variable "aws_region" {
  type        = string
  description = "AWS region of the bucket and its key."
}

variable "account_id" {
  type        = string
  description = "AWS account that administers the key."
}

variable "partition" {
  type        = string
  description = "AWS partition, for ARNs."
}

variable "writer_arns" {
  type        = list(string)
  description = "Roles that may encrypt and decrypt with the key."
}

variable "reader_arns" {
  type        = list(string)
  description = "Roles that may decrypt with the key."
  default     = []
}

variable "key_arn" {
  type        = string
  description = "Key of the bucket."
}
