terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source = "hashicorp/aws"
      # 6.0 brought the argument region of every resource, without which each region would need a provider of its own.
      version = "~> 6.0"
    }
  }
}
